/*
 * One run of libspf2 (the only place that sees it) over the DNS answers that it is given; it asks nobody. Only the checker program
 * calls this: the library as Debian ships it has a known overflow in its reader of macros (CVE-2023-42118).
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* run and reply as common/proto/spf_wire.h has them. ERR_SYNTAX: it is no run; nothing is written. */
MUST_CHECK int spf_eval(struct slice run, struct buf *reply);
