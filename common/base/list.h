/*
 * An intrusive doubly linked list with a head. An element that is in no list is a list of itself after
 * list_init(), so that removing twice is harmless.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_add_last(struct list *head, struct list *element)
{
	element->prev = head->prev;
	element->next = head;
	head->prev->next = element;
	head->prev = element;
}

static inline void list_add_first(struct list *head, struct list *element)
{
	list_add_last(head->next, element);
}

static inline void list_remove(struct list *element)
{
	element->prev->next = element->next;
	element->next->prev = element->prev;
	list_init(element);
}

/* Moves everything of `from` to the end of `to`. */
static inline void list_move_all(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_for_each(at, head) for (struct list *at = (head)->next; at != (head); at = at->next)
/* The body may remove `at`. */
#define list_for_each_safe(at, head)                                                                         \
	for (struct list *at = (head)->next, *at##_next = at->next; at != (head);                            \
		at = at##_next, at##_next = at->next)
