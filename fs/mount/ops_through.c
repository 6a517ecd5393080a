/* ops_through.c - passthrough (-o passthrough, libfuse 3.17, Linux 6.9): the kernel reads a partition file of this machine by itself.
 *
 * The kernel wants all opens of an inode at one time to be of one kind: through one file, or plain.  The first open decides, and it
 * goes through when it only reads and the node's bytes are exactly one local file.  From then to the last close
 *
 *   who opens to read    goes through the same file
 *   who opens to write,
 *   or changes the size  gets ETXTBSY: writes that pass us by could be neither sealed nor cut at a partition's end
 *
 * What others write in place is seen at once; a partition that is replaced whole is seen by who opens after the last close.
 */
#include "ops_fuse.h"

#include <fcntl.h>

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static int backing_open(fuse_req_t req, int fd)
{
	return fuse_passthrough_open(req, fd);
}

static void backing_close(fuse_req_t req, int id)
{
	fuse_passthrough_close(req, id);
}

bool ops_through_init(struct fuse_conn_info *conn)
{
	return fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH);
}
#else
static int backing_open(fuse_req_t req, int fd)
{
	(void)req;
	(void)fd;
	return 0;
}

static void backing_close(fuse_req_t req, int id)
{
	(void)req;
	(void)id;
}

bool ops_through_init(struct fuse_conn_info *conn)
{
	(void)conn;
	return false;
}
#endif

static bool may_change(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

int ops_through_begin(struct mount *m, struct handle *h)
{
	struct node *n = h->node;
	int err = 0;

	if (!m->through)
		return 0;
	pthread_mutex_lock(&n->lock);
	while (n->through.deciding)
		pthread_cond_wait(&n->idle, &n->lock);
	if (n->through.n_through > 0 && may_change(h->flags)) {
		err = -ETXTBSY;
	} else if (n->through.n_through > 0) {
		n->through.n_through++;
		h->through = HANDLE_THROUGH;
	} else if (n->through.n_plain > 0 || may_change(h->flags) || !n->ops->whole_fd) {
		n->through.n_plain++;
		h->through = HANDLE_PLAIN;
	} else {
		n->through.deciding = true;
		h->through = HANDLE_DECIDING;
	}
	pthread_mutex_unlock(&n->lock);
	return err;
}

static void decided(struct node *n, struct handle *h, int id)
{
	pthread_mutex_lock(&n->lock);
	n->through.deciding = false;
	n->through.backing_id = id;
	*(id > 0 ? &n->through.n_through : &n->through.n_plain) += 1;
	h->through = id > 0 ? HANDLE_THROUGH : HANDLE_PLAIN;
	pthread_cond_broadcast(&n->idle);
	pthread_mutex_unlock(&n->lock);
}

int ops_through_decide(fuse_req_t req, struct handle *h)
{
	struct mount *m = ops_mount_of(req);
	struct node *n = h->node;
	int id = 0;

	if (h->through == HANDLE_DECIDING) {
		AUTO_CLOSE int fd = -1;
		if (n->ops->whole_fd(m, n, &fd) == 0)
			id = backing_open(req, fd);
		decided(n, h, MAX(id, 0));
	}
	return h->through == HANDLE_THROUGH ? n->through.backing_id : 0;
}

void ops_through_end(fuse_req_t req, struct handle *h)
{
	struct node *n = h->node;
	int close_id = 0;

	if (h->through == HANDLE_UNTOLD)
		return;
	if (h->through == HANDLE_DECIDING)
		decided(n, h, 0);
	pthread_mutex_lock(&n->lock);
	if (h->through == HANDLE_PLAIN)
		n->through.n_plain--;
	else if (--n->through.n_through == 0)
		close_id = n->through.backing_id;
	pthread_mutex_unlock(&n->lock);
	if (close_id && req) /* without a request to name the session by, the kernel keeps the file until the unmount */
		backing_close(req, close_id);
}

int ops_through_check_resize(struct mount *m, struct node *n)
{
	bool busy;

	if (!m->through)
		return 0;
	pthread_mutex_lock(&n->lock);
	busy = n->through.n_through > 0;
	pthread_mutex_unlock(&n->lock);
	return busy ? -ETXTBSY : 0;
}
