/*
 * DKIM, DMARC and ARC as stages of the content of a message (smtp_content.h):
 *
 *	mail_auth_stage_verify   service smtp: checks, writes what it found into the session's facts and into one
 *	                         Authentication-Results field, takes fields away that claim to be ours, obeys dmarc-policy
 *	mail_auth_stage_seal     service smtp, with arc-seal: adds an ARC set; behind everything else that edits
 *	mail_auth_stage_sign     service submission, with dkim sections: signs for the author's domain; behind everything
 *	                         else that edits
 *
 * Mail of a trusted proxy was checked there, and is not checked again.
 */
#pragma once

#include "common/front/smtp_content.h"

extern const struct smtp_stage mail_auth_stage_verify, mail_auth_stage_seal, mail_auth_stage_sign;
