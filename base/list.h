/* Intrusive doubly-linked circular list. A head is a node whose neighbours are itself.
 * Threading: none of its own; whoever owns the head holds the lock that protects it. */
#pragma once

#include "base/types.h"

struct nk_list {
    struct nk_list *next, *prev;
};

#define NK_LIST_INIT(name)                                                                         \
    {                                                                                              \
        &(name), &(name)                                                                           \
    }
#define nk_list_entry(node, type, member) NK_CONTAINER_OF(node, type, member)
#define nk_list_for_each(pos, head)       for (pos = (head)->next; pos != (head); pos = pos->next)
#define nk_list_for_each_safe(pos, tmp, head)                                                      \
    for (pos = (head)->next, tmp = pos->next; pos != (head); pos = tmp, tmp = pos->next)

static inline void nk_list_init(struct nk_list *head)
{
    head->next = head->prev = head;
}

static inline bool nk_list_empty(const struct nk_list *head)
{
    return head->next == head;
}

static inline void nk_list_insert_between(struct nk_list *node, struct nk_list *prev,
                                          struct nk_list *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}

static inline void nk_list_push_back(struct nk_list *head, struct nk_list *node)
{
    nk_list_insert_between(node, head->prev, head);
}

static inline void nk_list_push_front(struct nk_list *head, struct nk_list *node)
{
    nk_list_insert_between(node, head, head->next);
}

/* Unlinks the node and leaves it self-linked, so that nk_list_empty(node) says "on no list". */
static inline void nk_list_remove(struct nk_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    nk_list_init(node);
}

/* The first node, unlinked, or NULL when the list is empty. */
static inline struct nk_list *nk_list_pop_front(struct nk_list *head)
{
    struct nk_list *node = head->next;
    if (node == head) {
        return NULL;
    }
    nk_list_remove(node);
    return node;
}
