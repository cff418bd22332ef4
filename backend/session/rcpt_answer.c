#include "backend/session/rcpt_answer.h"

#include "common/base/error.h"

const struct smtp_answer *rcpt_answer(int err, bool is_over_quota_permanent)
{
	static const struct smtp_answer full_for_good = {
		552, SLICE_LIT("5.2.2"), SLICE_LIT("Mailbox is full")};
	static const struct smtp_answer later = {451, SLICE_LIT("4.3.0"), SLICE_LIT("Not now")};
	static const struct {
		int err;
		struct smtp_answer answer;
	} rows[] = {
		{ERR_NOT_FOUND, {550, SLICE_LIT("5.1.1"), SLICE_LIT("No such user here")}},
		{ERR_SYNTAX, {553, SLICE_LIT("5.1.3"), SLICE_LIT("No address that could be here")}},
		{ERR_DENIED, {550, SLICE_LIT("5.2.1"), SLICE_LIT("This account takes no mail")}},
		{ERR_TOO_BIG, {452, SLICE_LIT("4.2.2"), SLICE_LIT("Mailbox is full")}},
		{ERR_NOT_NOW, {450, SLICE_LIT("4.2.1"), SLICE_LIT("This account takes no mail now")}},
		{ERR_FULL, {452, SLICE_LIT("4.2.2"),
				   SLICE_LIT("The mailbox that this is forwarded to is full")}},
		{ERR_CLOSED,
			{451, SLICE_LIT("4.3.5"), SLICE_LIT("The forwarding of this address is broken")}},
		{ERR_UNSUPPORTED, {554, SLICE_LIT("5.4.6"),
					  SLICE_LIT("The forwarding of this address goes in circles")}},
	};

	if (err == ERR_TOO_BIG && is_over_quota_permanent)
		return &full_for_good;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].err == err)
			return &rows[i].answer;
	return &later;
}
