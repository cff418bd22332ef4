/*
 * Tells the supervisor how the program is: one datagram of lines NAME=VALUE to the socket that $NOTIFY_SOCKET names, as systemd's
 * sd_notify(3) describes. Without that variable, nothing. docs/decisions/handover.md says why this is no library.
 */
#pragma once

/* "READY=1", "STOPPING=1", "MAINPID=123", "STATUS=words"; lines are separated by line feeds. Never fails, never waits. Any thread. */
void notify_send(const char *lines);
