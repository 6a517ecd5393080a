#include "node.h"

#include <fcntl.h>
#include <stdlib.h>

int handle_new(struct mount *m, struct node *n, int flags, struct handle **ret)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->node = node_ref(n);
	h->ops = n->ops;
	h->flags = flags;
	if ((flags & O_ACCMODE) == O_RDWR)
		atomic_fetch_add(&n->n_mappers, 1);
	pthread_mutex_lock(&m->table_lock);
	h->next = m->handles;
	h->before = &m->handles;
	if (h->next)
		h->next->before = &h->next;
	m->handles = h;
	pthread_mutex_unlock(&m->table_lock);
	*ret = h;
	return 0;
}

void handle_free(struct mount *m, struct handle *h)
{
	pthread_mutex_lock(&m->table_lock);
	*h->before = h->next;
	if (h->next)
		h->next->before = h->before;
	pthread_mutex_unlock(&m->table_lock);
	if ((h->flags & O_ACCMODE) == O_RDWR)
		atomic_fetch_sub(&h->node->n_mappers, 1);
	node_unref(m, h->node);
	free(h->buf);
	free(h);
}

void handle_count_cached(struct handle *h)
{
	h->cached = !h->direct_io;
	pthread_mutex_lock(&h->node->lock);
	h->node->n_cached += h->cached;
	pthread_mutex_unlock(&h->node->lock);
}

void handle_close(struct mount *m, struct handle *h)
{
	pthread_mutex_lock(&h->node->lock);
	h->node->n_cached -= h->cached;
	pthread_mutex_unlock(&h->node->lock);
	if (h->ops->release)
		h->ops->release(m, h);
	handle_free(m, h);
}

void handle_close_all(struct mount *m)
{
	while (m->handles)
		handle_close(m, m->handles);
}
