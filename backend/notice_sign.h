/*
 * Signs the queue's own messages (notices) by DKIM, with the keys of the configuration: what struct queue_sender wants of its `sign`. A domain without
 * a key signs nothing, and a signature that cannot be made keeps no notice back.
 */
#pragma once

#include "common/base/buf.h"
#include "common/conf/conf.h"
#include "common/net/loop.h"

struct notice_sign;

/* Without keys until notice_sign_set(). sign() is called on this loop. */
struct notice_sign *notice_sign_new(struct loop *loop);
/* The keys of this configuration, from now on; ERR_CONFIG with reasons in why changes nothing. Any thread. */
MUST_CHECK int notice_sign_set(struct notice_sign *signer, const struct conf *conf, struct buf *why);
/* arg: a struct notice_sign. message: whole, borrowed until done, which comes once, within the call or later: fields with line ends, to be put before it;
 * empty: none. */
void notice_sign(
	void *arg, struct slice message, void (*done)(void *arg, struct slice fields), void *done_arg);
/* After the loop's end. Sets NULL, accepts NULL. */
void notice_sign_free(struct notice_sign **signer);
