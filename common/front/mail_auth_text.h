/*
 * What DKIM, DMARC and ARC found, as text (RFC 8601, RFC 8617): the Authentication-Results field of a check, and the results for
 * the next ARC set out of a session's facts.
 */
#pragma once

#include "common/front/mail_auth.h"
#include "common/front/smtp_content.h"

/* The authserv-id: our name as the service has it. */
const char *mail_auth_text_host(const struct smtp_content *content);
/* Appends the whole field, with its line end. */
void mail_auth_text_results(const struct mail_auth *check, const char *host, bool has_dmarc, struct buf *out);
/* Appends all that the facts know, SPF as well, as the value of ARC-Authentication-Results without its "i=". */
void mail_auth_text_facts(const struct smtp_facts *facts, const char *host, struct buf *out);
