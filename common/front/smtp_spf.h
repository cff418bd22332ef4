/*
 * SPF in a session: at MAIL the sender (with a null sender the name of EHLO) is checked before the tier and rules see the command, and
 * the result goes into the session's facts, into the log, and into Received-SPF and Authentication-Results before the message.
 *
 * Not checked are clients who have logged in, trusted proxies (who have done it), and clients on loopback or unix sockets.
 */
#pragma once

#include "common/conf/conf.h"
#include "common/front/smtp_front.h"
#include "common/front/spf.h"

/* Rows of the sections "" and smtp, for both programs' tables. */
extern const struct conf_key smtp_spf_keys[];
/* In the program's check(): is the checker there? */
void smtp_spf_check_conf(struct conf *conf);

/* Main thread, once, before the loops start: so many there will be. */
void smtp_spf_start(const struct conf *conf, unsigned loops);
/* Ends the checkers, on their loops: before these are stopped. */
void smtp_spf_leave(struct loop_group *group);
/* After the loops have ended; the main thread's is still there. */
void smtp_spf_end(void);

/* Main thread, for `smtp explain`: spf_check() on its own loop, by one checker that sessions do not share. */
void smtp_spf_ask(struct loop *loop, const struct spf_question *question, uint64_t timeout_ms, spf_fn *fn,
	void *arg, struct spf_check **check_out);
/* What rules call it. */
enum smtp_result smtp_spf_fact(enum spf_result result);

/* Sets whether and how long a service checks. */
void smtp_spf_read(const struct conf *conf, bool is_submission, struct smtp_service *service);

/* ---- for smtp_front alone ---- */

struct smtp_spf;
/* Begins the check of this MAIL, whose rest of the command is kept for smtp_front_spf_done(); false: there is nothing to check. */
bool smtp_spf_begin(struct smtp_front *front, const struct smtp_path *sender, struct slice rest);
/* What smtp_spf_begin() kept; valid until smtp_spf_free(). */
struct slice smtp_spf_rest(const struct smtp_spf *spf);
/* Before the result or after it. */
void smtp_spf_free(struct smtp_spf **spf);
/* Appends Received-SPF and Authentication-Results; nothing where nothing was checked. */
void smtp_spf_write(const struct smtp_front *front, struct buf *out);
/* A body begins: fields of its header that claim to be our results are taken out, unless a stage of the policy does it. */
void smtp_spf_begin_body(struct smtp_front *front);
/* Appends what passes of a piece; false: everything does. spf may be NULL. is_end: it is the last. */
bool smtp_spf_filter(struct smtp_spf *spf, struct slice body, bool is_end, struct buf *out);
