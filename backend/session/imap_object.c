/* A letter that no hexadecimal number has keeps the second form of a thread apart from the first. */
#include "backend/session/imap_object.h"

#include "common/base/bytes.h"
#include "common/base/table.h"

static uint64_t number_of(int64_t created, char kind, uint64_t number)
{
	char text[17] = {kind};

	bytes_put_u64(text + 1, (uint64_t)created);
	bytes_put_u64(text + 9, number);
	return hash_bytes(slice_of(text, sizeof(text)), 0);
}

void imap_object_mailbox(int64_t created, uint32_t uidvalidity, struct buf *out)
{
	buf_printf(out, "F%llx", (unsigned long long)number_of(created, 'F', uidvalidity));
}

/* Of a message stored before there were EMAILIDs: from its blob, which its copies share. */
uint64_t imap_object_email_number(int64_t created, const struct store_message *m)
{
	if (m->email & STORE_EMAIL_OTHER)
		return m->email;
	return number_of(created, m->email ? 'M' : 'B', m->email ? m->email : m->blob) | STORE_EMAIL_OTHER;
}

void imap_object_email(int64_t created, const struct store_message *m, struct buf *out)
{
	buf_printf(out, "M%llx", (unsigned long long)imap_object_email_number(created, m));
}

void imap_object_thread(
	int64_t created, const struct store_message *m, const struct mail_keys *keys, struct buf *out)
{
	uint64_t root = keys->reference_count ? mail_keys_reference(keys, 0) : keys->id;

	if (root) {
		buf_printf(out, "T%llx", (unsigned long long)root);
	} else {
		buf_add_str(out, "Tx");
		imap_object_email(created, m, out);
	}
}
