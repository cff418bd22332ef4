/*
 * REFERENCES in the words of RFC 5256 section 3: step 1 when a message is added; then all messages are sorted by
 * date, once. A walk over them in that order meets siblings in theirs, so that steps 2 to 6 need no other sort:
 *
 *	added     nodes with parents, messages and dummies          step 1
 *	gathered  every message has a real parent, a dummy or none  steps 2 and 3
 *	merged    threads of one subject become one                 steps 4 and 5
 *	linked    lists of children, in order                       step 6
 *
 * ORDEREDSUBJECT is the same walk: the first message of a subject is the parent of the others.
 *
 * Nothing recurses: a mailbox can hold a thread of any depth.
 */
#include "backend/session/imap_thread.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/base/table.h"

#define NONE UINT32_MAX
/* Generations looked at for a loop: a link that would need more is not made. Only messages that come before
 * their parents need any. */
#define LOOP_MOST 10000

struct node {
	uint32_t parent;
	uint32_t place; /* of its message in the sorter; NONE: a dummy */
	uint32_t children;
	uint32_t first, last, next; /* lists of children, once linked */
	bool is_reply;
	struct slice subject; /* the texts arena's */
};

struct imap_thread {
	enum imap_thread_algorithm algorithm;
	struct imap_sorter sorter; /* by date */
	struct buf nodes;
	struct arena texts;
	struct buf places; /* uint32_t: node of each message */
	/* message id -> node: open addressing, a power of two */
	struct id_row {
		uint64_t id; /* 0: empty */
		uint32_t node;
	} * ids;
	size_t id_room, id_count;
	uint64_t seed; /* ids are their senders' to choose */
	bool is_linked;
	uint32_t first_root, last_root;
	struct buf stack; /* uint32_t: siblings to be written */
	uint32_t at_root; /* the next one to be written */
};

static const struct imap_sort by_date = {{{IMAP_SORT_DATE, false}}, 1};

struct imap_thread *imap_thread_new(enum imap_thread_algorithm algorithm)
{
	struct imap_thread *t = xcalloc(1, sizeof(*t));

	t->algorithm = algorithm;
	random_bytes(&t->seed, sizeof(t->seed));
	imap_sorter_init(&t->sorter, &by_date);
	buf_init(&t->nodes, IMAP_SORT_MEMORY);
	buf_init(&t->places, IMAP_SORT_MEMORY);
	buf_init(&t->stack, IMAP_SORT_MEMORY);
	arena_init(&t->texts, IMAP_SORT_MEMORY);
	t->first_root = t->last_root = t->at_root = NONE;
	return t;
}

void imap_thread_free(struct imap_thread **thread)
{
	struct imap_thread *t = *thread;

	if (!t)
		return;
	imap_sorter_deinit(&t->sorter);
	buf_deinit(&t->nodes);
	buf_deinit(&t->places);
	buf_deinit(&t->stack);
	arena_deinit(&t->texts);
	free(t->ids);
	free(t);
	*thread = NULL;
}

/* Good until the next node is made. */
static struct node *node_at(const struct imap_thread *t, uint32_t n)
{
	return (struct node *)(void *)(t->nodes.data + t->nodes.start) + n;
}

static uint32_t node_count(const struct imap_thread *t)
{
	return (uint32_t)(buf_len(&t->nodes) / sizeof(struct node));
}

static int new_node(struct imap_thread *t, uint32_t place, uint32_t *node_out)
{
	struct node node = {.parent = NONE, .place = place, .first = NONE, .last = NONE, .next = NONE};

	*node_out = node_count(t);
	buf_add(&t->nodes, &node, sizeof(node));
	return t->nodes.failed ? ERR_TOO_BIG : 0;
}

/* ---- step 1 ---- */

static struct id_row *find_row(struct id_row *ids, size_t room, uint64_t seed, uint64_t id)
{
	size_t at = (size_t)hash_bytes(slice_of(&id, sizeof(id)), seed) & (room - 1);

	while (ids[at].id && ids[at].id != id)
		at = (at + 1) & (room - 1);
	return &ids[at];
}

static int grow_ids(struct imap_thread *t)
{
	size_t room = t->id_room ? t->id_room * 2 : 1024;
	struct id_row *ids;

	if (room > IMAP_SORT_MEMORY / sizeof(*ids))
		return ERR_TOO_BIG;
	ids = calloc(room, sizeof(*ids));
	if (!ids)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < t->id_room; i++) {
		if (t->ids[i].id)
			*find_row(ids, room, t->seed, t->ids[i].id) = t->ids[i];
	}
	free(t->ids);
	t->ids = ids;
	t->id_room = room;
	return 0;
}

/* The node of an id, a dummy if there was none. */
static int node_of_id(struct imap_thread *t, uint64_t id, uint32_t *node_out)
{
	struct id_row *row;
	int err = (t->id_count + 1) * 2 > t->id_room ? grow_ids(t) : 0;

	if (err < 0)
		return err;
	row = find_row(t->ids, t->id_room, t->seed, id);
	if (!row->id) {
		err = new_node(t, NONE, &row->node);
		if (err < 0)
			return err;
		row->id = id;
		t->id_count++;
	}
	*node_out = row->node;
	return 0;
}

/* Would `parent` become its own ancestor? A node without children is nobody's. */
static bool makes_loop(const struct imap_thread *t, uint32_t parent, uint32_t child)
{
	unsigned steps = 0;

	if (parent == child)
		return true;
	if (node_at(t, child)->children == 0)
		return false;
	for (uint32_t n = parent; n != NONE; n = node_at(t, n)->parent) {
		if (n == child || ++steps > LOOP_MOST)
			return true;
	}
	return false;
}

static void unlink_parent(struct imap_thread *t, uint32_t child)
{
	struct node *node = node_at(t, child);

	if (node->parent != NONE)
		node_at(t, node->parent)->children--;
	node->parent = NONE;
}

static void link_parent(struct imap_thread *t, uint32_t parent, uint32_t child)
{
	if (makes_loop(t, parent, child))
		return;
	unlink_parent(t, child);
	node_at(t, child)->parent = parent;
	node_at(t, parent)->children++;
}

/* The message's node: that of its id, if no message has taken it. */
static int take_node(struct imap_thread *t, uint64_t id, uint32_t place, uint32_t *node_out)
{
	int err = id ? node_of_id(t, id, node_out) : ERR_EXISTS;

	if (err == 0 && node_at(t, *node_out)->place != NONE)
		err = ERR_EXISTS;
	if (err == ERR_EXISTS)
		return new_node(t, place, node_out);
	if (err == 0)
		node_at(t, *node_out)->place = place;
	return err;
}

static int add_references(struct imap_thread *t, uint32_t node, const struct mail_keys *keys)
{
	uint32_t last = NONE, n;

	for (size_t i = 0; i < keys->reference_count; i++) {
		int err = node_of_id(t, mail_keys_reference(keys, i), &n);

		if (err < 0)
			return err;
		if (last != NONE && node_at(t, n)->parent == NONE)
			link_parent(t, last, n);
		last = n;
	}
	unlink_parent(t, node);
	if (last != NONE)
		link_parent(t, last, node);
	return 0;
}

int imap_thread_add(
	struct imap_thread *t, uint32_t number, const struct store_entry *entry, const struct mail_keys *keys)
{
	uint32_t place = (uint32_t)imap_sorter_count(&t->sorter), n = NONE;
	bool by_references = t->algorithm == IMAP_THREAD_REFERENCES;
	struct slice subject = arena_copy(&t->texts, keys->texts[MAIL_KEY_SUBJECT]);
	int err = imap_sorter_add(&t->sorter, number, entry, keys);

	if (err == 0 && !subject.p)
		err = ERR_TOO_BIG;
	if (err == 0)
		err = by_references ? take_node(t, keys->id, place, &n) : new_node(t, place, &n);
	if (err < 0)
		return err;
	node_at(t, n)->subject = subject;
	node_at(t, n)->is_reply = keys->is_reply;
	buf_add(&t->places, &n, sizeof(n));
	if (t->places.failed)
		return ERR_TOO_BIG;
	return by_references ? add_references(t, n, keys) : 0;
}

/* ---- steps 2 and 3 ---- */

/* Message after message by date. */
static uint32_t message_at(const struct imap_thread *t, size_t i)
{
	return ((const uint32_t *)(const void *)(t->places.data + t->places.start))[t->sorter.order[i]];
}

/* The nearest ancestor that is a message, else the highest dummy, else NONE; dummies on the way learn it. */
static uint32_t real_parent(struct imap_thread *t, uint32_t node)
{
	uint32_t found = node_at(t, node)->parent, n, above;

	if (found == NONE)
		return NONE;
	while (node_at(t, found)->place == NONE && node_at(t, found)->parent != NONE)
		found = node_at(t, found)->parent;
	for (n = node_at(t, node)->parent; n != found; n = above) {
		above = node_at(t, n)->parent;
		node_at(t, n)->parent = found;
	}
	return found;
}

static bool is_dummy(const struct imap_thread *t, uint32_t n)
{
	return node_at(t, n)->place == NONE;
}

/* Afterwards only dummies with two children or more are anybody's parents, and they have none. */
static void gather(struct imap_thread *t)
{
	size_t count = imap_sorter_count(&t->sorter);
	uint32_t nodes = node_count(t);

	for (size_t i = 0; i < count; i++)
		node_at(t, message_at(t, i))->parent = real_parent(t, message_at(t, i));
	for (uint32_t n = 0; n < nodes; n++)
		node_at(t, n)->children = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t parent = node_at(t, message_at(t, i))->parent;

		if (parent != NONE)
			node_at(t, parent)->children++;
	}
	for (size_t i = 0; i < count; i++) {
		struct node *node = node_at(t, message_at(t, i));

		if (node->parent != NONE && is_dummy(t, node->parent) &&
			node_at(t, node->parent)->children == 1)
			node->parent = NONE;
	}
}

/* ---- steps 4 and 5 ---- */

/* The heads of the threads by date, with their subjects: a dummy has that of its first child. Uses `next` of
 * heads, and `first` of dummies. */
static void list_heads(struct imap_thread *t)
{
	size_t count = imap_sorter_count(&t->sorter);

	t->first_root = t->last_root = NONE;
	for (size_t i = 0; i < count; i++) {
		uint32_t n = message_at(t, i), head = n;
		struct node *node = node_at(t, n);

		if (node->parent != NONE) {
			head = node->parent;
			if (!is_dummy(t, head) || node_at(t, head)->first != NONE)
				continue;
			node_at(t, head)->first = n;
			node_at(t, head)->subject = node->subject;
		}
		node_at(t, head)->next = NONE;
		if (t->last_root == NONE)
			t->first_root = head;
		else
			node_at(t, t->last_root)->next = head;
		t->last_root = head;
	}
}

static struct table *make_subjects(struct imap_thread *t)
{
	struct table *subjects = table_new();

	for (uint32_t n = t->first_root; n != NONE; n = node_at(t, n)->next) {
		struct node *node = node_at(t, n), *other;
		uintptr_t known;

		if (node->subject.len == 0)
			continue;
		known = (uintptr_t)table_get(subjects, node->subject);
		other = known ? node_at(t, (uint32_t)(known - 1)) : NULL;
		if (!other || (!is_dummy(t, (uint32_t)(known - 1)) &&
				      (is_dummy(t, n) || (other->is_reply && !node->is_reply))))
			table_put(subjects, node->subject, (void *)((uintptr_t)n + 1));
	}
	return subjects;
}

/* Parents alone change; the lists are made anew afterwards. A dummy that goes points to the one that has taken
 * its children. */
static int merge_head(struct imap_thread *t, struct table *subjects, uint32_t n)
{
	struct slice subject = node_at(t, n)->subject;
	uint32_t other = (uint32_t)((uintptr_t)table_get(subjects, subject) - 1), dummy;
	int err;

	if (other == n)
		return 0;
	if (is_dummy(t, other) ||
		(!is_dummy(t, n) && node_at(t, n)->is_reply && !node_at(t, other)->is_reply)) {
		node_at(t, n)->parent = other;
		return 0;
	}
	err = new_node(t, NONE, &dummy);
	if (err < 0)
		return err;
	node_at(t, dummy)->subject = subject;
	node_at(t, n)->parent = dummy;
	node_at(t, other)->parent = dummy;
	table_put(subjects, subject, (void *)((uintptr_t)dummy + 1));
	return 0;
}

static int merge_subjects(struct imap_thread *t)
{
	struct table *subjects;
	int err = 0;

	list_heads(t);
	subjects = make_subjects(t);
	for (uint32_t n = t->first_root; n != NONE && err == 0; n = node_at(t, n)->next) {
		if (node_at(t, n)->subject.len)
			err = merge_head(t, subjects, n);
	}
	table_free(&subjects);
	return err;
}

/* ORDEREDSUBJECT: the first of each subject is the parent of the others. */
static void gather_subjects(struct imap_thread *t)
{
	struct table *subjects = table_new();
	size_t count = imap_sorter_count(&t->sorter);

	for (size_t i = 0; i < count; i++) {
		uint32_t n = message_at(t, i);
		uintptr_t known = (uintptr_t)table_get(subjects, node_at(t, n)->subject);

		if (known)
			node_at(t, n)->parent = (uint32_t)(known - 1);
		else
			table_put(subjects, node_at(t, n)->subject, (void *)((uintptr_t)n + 1));
	}
	table_free(&subjects);
}

/* ---- step 6 ---- */

static void append_child(struct imap_thread *t, uint32_t parent, uint32_t child)
{
	uint32_t *first = parent == NONE ? &t->first_root : &node_at(t, parent)->first;
	uint32_t *last = parent == NONE ? &t->last_root : &node_at(t, parent)->last;

	if (*last == NONE)
		*first = child;
	else
		node_at(t, *last)->next = child;
	*last = child;
}

static void link_children(struct imap_thread *t)
{
	size_t count = imap_sorter_count(&t->sorter);
	uint32_t nodes = node_count(t);

	t->first_root = t->last_root = NONE;
	for (uint32_t n = 0; n < nodes; n++) {
		struct node *node = node_at(t, n);

		node->first = node->last = node->next = NONE;
	}
	for (size_t i = 0; i < count; i++) {
		uint32_t n = message_at(t, i), parent = real_parent(t, n);
		bool is_new = parent != NONE && is_dummy(t, parent) && node_at(t, parent)->first == NONE;

		append_child(t, parent, n);
		if (is_new)
			append_child(t, NONE, parent);
	}
	t->at_root = t->first_root;
}

int imap_thread_step(struct imap_thread *t, uint64_t until)
{
	int sorted = imap_sorter_step(&t->sorter, until), err = 0;

	if (sorted != 1 || t->is_linked)
		return sorted;
	if (t->algorithm == IMAP_THREAD_REFERENCES) {
		gather(t);
		err = merge_subjects(t);
	} else {
		gather_subjects(t);
	}
	if (err < 0)
		return err;
	link_children(t);
	t->is_linked = true;
	return 1;
}

/* ---- the answer ---- */

static void push(struct imap_thread *t, uint32_t n)
{
	buf_add(&t->stack, &n, sizeof(n));
}

static uint32_t pop(struct imap_thread *t)
{
	uint32_t n;

	memcpy(&n, t->stack.data + t->stack.end - sizeof(n), sizeof(n));
	buf_cut(&t->stack, buf_len(&t->stack) - sizeof(n));
	return n;
}

/* Writes the node and its only descendants; then opens the list of children, or closes it and what ends with
 * it. The stack holds the next sibling of every open node. */
static void write_node(struct imap_thread *t, uint32_t n, struct buf *out)
{
	const uint32_t *numbers = (const void *)(t->sorter.numbers.data + t->sorter.numbers.start);

	buf_add_char(out, '(');
	for (;; n = node_at(t, n)->first) {
		uint32_t child = node_at(t, n)->first;

		if (!is_dummy(t, n))
			buf_add_u64(out, numbers[node_at(t, n)->place]);
		if (child == NONE) {
			buf_add_char(out, ')');
			return;
		}
		if (!is_dummy(t, n))
			buf_add_char(out, ' ');
		if (node_at(t, child)->next != NONE) {
			push(t, child);
			return;
		}
	}
}

/* One thread; true: all of it is written. */
static bool write_thread(struct imap_thread *t, struct buf *out, size_t most)
{
	while (buf_len(&t->stack)) {
		uint32_t n;

		if (buf_len(out) >= most)
			return false;
		n = pop(t);
		if (n == NONE) {
			buf_add_char(out, ')');
			continue;
		}
		push(t, node_at(t, n)->next);
		write_node(t, n, out);
	}
	return true;
}

bool imap_thread_write(struct imap_thread *t, struct buf *out, size_t most)
{
	while (write_thread(t, out, most) && t->at_root != NONE) {
		if (buf_len(out) >= most)
			return false;
		write_node(t, t->at_root, out);
		t->at_root = node_at(t, t->at_root)->next;
	}
	return buf_len(&t->stack) == 0 && t->at_root == NONE;
}
