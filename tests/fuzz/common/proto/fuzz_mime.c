/* The MIME parser: two ways of feeding give one tree, parts lie in their parents, packing and shortening
 * hold. */
#include <stdlib.h>

#include "common/proto/bodystructure.h"
#include "common/proto/mail_keys.h"
#include "common/proto/preview.h"
#include "common/proto/section.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mime_part *parse(struct arena *a, struct slice text, size_t step)
{
	struct mime_parser *p = mime_parser_new(a);
	struct mime_part *root;

	for (size_t at = 0; at < text.len; at += step)
		mime_parser_feed(p, slice_sub(text, at, step));
	root = mime_parser_end(p);
	mime_parser_free(&p);
	return root;
}

static void check_packing(struct arena *a, const struct mime_part *root, size_t len)
{
	struct buf packed = {0}, again = {0};
	struct mime_part *unpacked;

	mime_pack(root, &packed);
	require(mime_unpack(a, buf_view(&packed), len, &unpacked) == 0);
	mime_pack(unpacked, &again);
	require(slice_is_equal(buf_view(&packed), buf_view(&again)));
	buf_deinit(&packed);
	buf_deinit(&again);
}

/* Previews are text of one line; packed keys are read back. */
static void check_keys(struct arena *a, const struct mime_part *root, struct slice text)
{
	const struct mime_part *part = preview_part(root);
	struct buf preview = {0}, packed = {0};
	struct slice date, subject;
	struct mail_keys keys;

	if (part)
		preview_write(
			part, slice_sub(text, (size_t)mime_body_at(part), (size_t)part->body_len), &preview);
	require(slice_is_utf8(buf_view(&preview)) && !slice_has_control(buf_view(&preview)));
	require(mail_keys_pack(root->envelope, buf_view(&preview), a, &packed) == 0);
	require(mail_keys_unpack(buf_view(&packed), &keys) == 0);
	require(slice_is_equal(keys.preview, buf_view(&preview)));
	buf_clear(&packed);
	require(envelope_write(root->envelope, a, &packed) == 0);
	buf_clear(&preview);
	require(envelope_read(buf_view(&packed), &preview, &date, &subject) == 0);
	require(!root->envelope->subject.p == !subject.p && subject.len <= root->envelope->subject.len);
	buf_deinit(&preview);
	buf_deinit(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = slice_from(slice_of(data, size), 1);
	struct buf one = {0}, two = {0}, brief = {0};
	struct mime_part *root, *other;
	struct arena a;

	if (size == 0)
		return 0;
	arena_init(&a, 0);
	root = parse(&a, text, SIZE_MAX / 2);
	other = parse(&a, text, (size_t)data[0] + 1);
	require(bodystructure_write(root, &a, &one) == 0 && bodystructure_write(other, &a, &two) == 0);
	require(slice_is_equal(buf_view(&one), buf_view(&two)));
	for (const struct mime_part *p = root; p; p = mime_next(root, p)) {
		require(mime_body_at(p) + p->body_len <= text.len);
		require(!p->parent || (p->header_at >= mime_body_at(p->parent) &&
					      mime_body_at(p) + p->body_len <=
						      mime_body_at(p->parent) + p->parent->body_len));
		require((p->kind == MIME_LEAF) == (p->first_child == NULL));
	}
	check_packing(&a, root, text.len);
	check_keys(&a, root, text);
	buf_clear(&two);
	require(bodystructure_write_short(root, &a, &two) == 0);
	require(bodystructure_shorten(buf_view(&one), &brief) == 0);
	require(slice_is_equal(buf_view(&brief), buf_view(&two)));
	buf_deinit(&one);
	buf_deinit(&two);
	buf_deinit(&brief);
	arena_deinit(&a);
	return 0;
}
