/* inval.h - which sessions cache which inodes, and telling them that something changed.
 *
 * A session holds an inode from the reply that named it until it forgets it or ends, the inode is gone, or the session was told of a
 * change and has not asked since.  inval_hold is called under the lock under
 * which the attributes were read (meta.lock), so that a change is either in the reply or pushed.  inval_send is called with no
 * lock held, after the change was committed.  Thread-safe.
 */
#ifndef SLABFSD_INVAL_H
#define SLABFSD_INVAL_H

#include "base.h"
#include "wire.h"

#define INVAL_WAIT_MS 1000

struct inval;
struct session;

/* How sessions are reached: the server's functions, or a test's. */
struct inval_ops {
	struct session *(*ref)(struct session *s);
	void (*unref)(struct session *s);
	int (*push)(struct session *s, uint64_t seq, const struct wire_inval *inval, const void *name, size_t len);
	void (*cut)(struct session *s, const char *reason);
	const char *(*name)(const struct session *s);
};
extern const struct inval_ops inval_server_ops;

int inval_new(const struct inval_ops *ops, struct inval **ret);
void inval_free(struct inval *iv);

/* request: the id of the session's request that told it. */
void inval_hold(struct inval *iv, uint64_t ino, uint64_t session, struct session *handle, uint64_t request);
void inval_forget(struct inval *iv, uint64_t ino, uint64_t session,
		  uint64_t before);   /* unless a later request has told it */
size_t inval_count(struct inval *iv); /* inodes that somebody holds */
void inval_session_end(struct inval *iv, uint64_t session);
void inval_gone(struct inval *iv, uint64_t ino); /* there is no such inode any more */
/* Forgets the holders that were told of a change and have not asked since, but for those that `keeps` names.  Called under the lock
 * under which inval_hold is. */
void inval_forget_told(struct inval *iv, uint64_t ino, bool (*keeps)(void *arg, uint64_t ino, uint64_t session),
		       void *arg);
bool inval_held(struct inval *iv, uint64_t ino, uint64_t session);

/* Tells a session that was met that its wait for a lock on the inode may be over.  Nobody waits for the answer; -errno is lost: it asks again
 * by itself.  Hold no lock. */
void inval_meet(struct inval *iv, uint64_t session, struct session *handle);
void inval_poke(struct inval *iv, uint64_t session, uint64_t ino, uint64_t wait);

/* What one operation changed. */
struct inval_item {
	uint64_t ino, generation;
	uint32_t flags; /* WIRE_INVAL_ */
	bool is_dir;
	bool to_origin; /* who asked is told as well: it could not know */
	uint16_t name_bytes;
	char name[SLAB_NAME_MAX];
};
#define INVAL_ITEMS_MAX 32
struct inval_list {
	size_t n;
	struct inval_item items[INVAL_ITEMS_MAX];
};

/* Whether somebody is to be told, and so to be waited for. */
bool inval_needed(struct inval *iv, const struct inval_list *list, uint64_t origin);
/* Pushes to every holder but `origin` (unless the item says so), and waits until all have answered; who does not within INVAL_WAIT_MS is cut off. */
void inval_send(struct inval *iv, const struct inval_list *list, uint64_t origin);
void inval_acked(struct inval *iv, uint64_t seq, uint64_t session);

#endif
