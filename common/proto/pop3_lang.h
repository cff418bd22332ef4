/*
 * What both tiers say of UTF-8 and of languages in POP3 (RFC 6856): the lines of CAPA, which are the same before and after login, and the answer
 * to LANG. All texts of the programs are English, so LANG has one language to choose from. Pure; any thread.
 */
#pragma once

#include "common/base/buf.h"
#include "common/proto/pop3_parse.h"

/* Lines of CAPA. USER: names and passwords of USER and PASS may be UTF-8 (section 2.2). */
#define POP3_LANG_CAPABILITIES "UTF8 USER\r\nLANG\r\n"

/* The answer to LANG with at most one argument (section 3.2), whole. */
void pop3_lang_answer(struct buf *out, const struct pop3_command *command);
