#include "backend/store/store_stream.h"

#include "common/base/bytes.h"
#include "common/base/table.h"

#define HEAD 24
#define RECORD_HEAD 16
#define END_PAYLOAD 24
#define WRITE_AT (64u << 10)
#define READ_SIZE (64u << 10)

static const char magic[16] = "MAILTIER ACCOUNT";

static uint64_t sum_of(uint16_t tag, struct slice payload)
{
	return hash_bytes(payload, (uint64_t)tag << 32 | (uint32_t)payload.len);
}

static uint64_t chain_with(uint64_t chain, uint64_t sum)
{
	char both[16];

	bytes_put_u64(both, chain);
	bytes_put_u64(both + 8, sum);
	return hash_bytes(slice_of(both, sizeof(both)), 0);
}

/* ---- writing ---- */

static int flush(struct stream_writer *w)
{
	int err = buf_len(&w->out) ? w->write(w->arg, buf_view(&w->out)) : 0;

	buf_clear(&w->out);
	return err;
}

int stream_write_head(struct stream_writer *w)
{
	char head[HEAD] = {0};

	memcpy(head, magic, sizeof(magic));
	bytes_put_u32(head + 16, STREAM_VERSION);
	buf_add(&w->out, head, sizeof(head));
	return 0;
}

int stream_write(void *writer, uint16_t tag, struct slice payload)
{
	struct stream_writer *w = writer;
	char head[RECORD_HEAD] = {0};
	uint64_t sum;

	if (payload.len > STREAM_RECORD_MAX)
		return ERR_TOO_BIG;
	sum = sum_of(tag, payload);
	bytes_put_u16(head, tag);
	bytes_put_u32(head + 4, (uint32_t)payload.len);
	bytes_put_u64(head + 8, sum);
	buf_add(&w->out, head, sizeof(head));
	buf_add_slice(&w->out, payload);
	w->records++;
	w->bytes += payload.len;
	w->chain = chain_with(w->chain, sum);
	return buf_len(&w->out) >= WRITE_AT ? flush(w) : 0;
}

int stream_write_end(struct stream_writer *w)
{
	char totals[END_PAYLOAD];
	int err;

	bytes_put_u64(totals, w->records);
	bytes_put_u64(totals + 8, w->bytes);
	bytes_put_u64(totals + 16, w->chain);
	err = stream_write(w, STREAM_END, slice_of(totals, sizeof(totals)));
	return err ? err : flush(w);
}

void stream_writer_deinit(struct stream_writer *w)
{
	buf_deinit(&w->out);
}

/* ---- reading ---- */

/* So many bytes in the buffer; ERR_SYNTAX when the stream ends before. */
static int want(struct stream_reader *r, size_t size)
{
	while (buf_len(&r->in) < size) {
		char *room = buf_reserve(&r->in, READ_SIZE);
		ssize_t n = room ? r->read(r->arg, room, READ_SIZE) : ERR_NOT_NOW;

		if (n <= 0)
			return n < 0 ? (int)n : ERR_SYNTAX;
		buf_added(&r->in, (size_t)n);
	}
	return 0;
}

static int fault(struct stream_reader *r, struct buf *why, int err, const char *what)
{
	buf_printf(why, "the stream %s at byte %llu", what, (unsigned long long)r->at);
	return err;
}

static int read_head(struct stream_reader *r, struct buf *why)
{
	int err = want(r, HEAD);
	const char *p = buf_view(&r->in).p;

	if (err)
		return err == ERR_SYNTAX ? fault(r, why, err, "is no account's: it ends")
					 : fault(r, why, err, "cannot be read");
	if (memcmp(p, magic, sizeof(magic)) != 0)
		return fault(r, why, ERR_SYNTAX, "is no account's: it has other words");
	if (bytes_get_u32(p + 16) != STREAM_VERSION || bytes_get_u32(p + 20) != 0) {
		buf_printf(why, "the stream has version %u; this program reads %d", bytes_get_u32(p + 16),
			STREAM_VERSION);
		return ERR_UNSUPPORTED;
	}
	buf_take(&r->in, HEAD);
	r->at = HEAD;
	return 0;
}

static int check_end(struct stream_reader *r, struct slice payload, struct buf *why)
{
	if (payload.len != END_PAYLOAD || bytes_get_u64(payload.p) != r->records ||
		bytes_get_u64(payload.p + 8) != r->bytes || bytes_get_u64(payload.p + 16) != r->chain)
		return fault(r, why, ERR_CORRUPT, "is not whole: its totals disagree");
	r->has_end = true;
	return 0;
}

static int take_record(struct stream_reader *r, uint16_t tag, struct slice payload, stream_record_fn *fn,
	void *arg, struct buf *why)
{
	int err;

	if (tag == STREAM_END)
		return check_end(r, payload, why);
	if (tag == 0 || tag > STREAM_LAST) {
		if (tag & STREAM_OPTIONAL)
			return 0;
		buf_printf(why,
			"the stream has a record of kind %u at byte %llu, which this program does not know",
			tag, (unsigned long long)r->at);
		return ERR_UNSUPPORTED;
	}
	err = fn(arg, tag, payload);
	if (err && buf_len(why) == 0)
		buf_printf(why, "%s, at byte %llu of the stream", error_text(err), (unsigned long long)r->at);
	return err;
}

static int read_record(struct stream_reader *r, stream_record_fn *fn, void *arg, struct buf *why)
{
	struct slice payload;
	const char *p;
	uint64_t sum;
	uint16_t tag;
	size_t len;
	int err = want(r, RECORD_HEAD);

	if (err)
		return fault(r, why, err, err == ERR_SYNTAX ? "was cut" : "cannot be read");
	p = buf_view(&r->in).p;
	tag = bytes_get_u16(p);
	len = bytes_get_u32(p + 4);
	sum = bytes_get_u64(p + 8);
	if (len > STREAM_RECORD_MAX || bytes_get_u16(p + 2) != 0)
		return fault(r, why, ERR_CORRUPT, "is damaged");
	err = want(r, RECORD_HEAD + len);
	if (err)
		return fault(r, why, err, err == ERR_SYNTAX ? "was cut" : "cannot be read");
	payload = slice_sub(buf_view(&r->in), RECORD_HEAD, len);
	if (sum_of(tag, payload) != sum)
		return fault(r, why, ERR_CORRUPT, "is damaged");
	err = take_record(r, tag, payload, fn, arg, why);
	if (err)
		return err;
	r->records++;
	r->bytes += len;
	r->chain = chain_with(r->chain, sum);
	r->at += RECORD_HEAD + len;
	buf_take(&r->in, RECORD_HEAD + len);
	return 0;
}

int stream_read_all(struct stream_reader *r, stream_record_fn *fn, void *arg, struct buf *why)
{
	int err = read_head(r, why);

	while (!err && !r->has_end)
		err = read_record(r, fn, arg, why);
	return err;
}

void stream_reader_deinit(struct stream_reader *r)
{
	buf_deinit(&r->in);
}
