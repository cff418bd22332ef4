/* What a client hears of a recipient that local delivery does not take; LMTP and SMTP say the same. */
#pragma once

#include "common/front/smtp_front.h"

/* err: of delivery_add_recipient() or delivery_add_remote(). A constant; codes of RFC 3463. Any thread. */
const struct smtp_answer *rcpt_answer(int err, bool is_over_quota_permanent);
