/* head_call.c - one request to the head, sent again until it is answered or the head has been away for too long; and what this mount has open
 * there, which a head that was started anew is told again. */
#include "head_call.h"
#include "errors.h"
#include "interrupt.h"

#include <poll.h>

#define RETRY_MS 50
#define CLOSED_KEPT 256
#define NEAR_NS UINT64_C(1000000000) /* for as long the head waits for the answer to a push */
#define RETRY_TIMEOUTS 6             /* a head that comes and goes is put up with for so many timeouts */
#define RETRY_MAX_SECONDS 300        /* well below WIRE_ONCE_SECONDS */

struct open_ino {
	uint64_t count; /* opens that are under way or done */
	bool busy;      /* CLOSE, or another OPEN than that of an opener, is on its way: the next one waits */
};

struct head_state {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	uint64_t reopen_wanted,
		reopen_done; /* how often the head was made a connection to; for which of these it has been told what is open */
	_Atomic uint64_t heard_ns; /* when the last request was sent that was answered; needs no lock */
	uint64_t sequence;
	uint64_t slots[WIRE_ONCE_SLOTS / 64]; /* bits of those in use */
	struct map opens;                     /* ino -> struct open_ino */
	uint64_t n_closed;                    /* CLOSEs sent so far */
	uint64_t closed[CLOSED_KEPT];         /* the last of them */
};

int head_state_new(struct head_state **ret)
{
	struct head_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	map_init(&s->opens);
	*ret = s;
	return 0;
}

void head_state_free(struct head_state *s)
{
	size_t pos = 0;
	uint64_t ino;
	void *value;

	if (!s)
		return;
	while (map_next(&s->opens, &pos, &ino, &value))
		free(value);
	map_fini(&s->opens);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- exactly once ---- */

/* The lowest free one: few slots in use are few rows at the head. */
static int free_slot_locked(const struct head_state *s)
{
	for (size_t i = 0; i < ARRAY_LEN(s->slots); i++)
		if (~s->slots[i])
			return (int)(64 * i) + __builtin_ctzll(~s->slots[i]);
	return -1;
}

static uint64_t once_begin(struct head_state *s)
{
	uint64_t once;
	int slot;

	pthread_mutex_lock(&s->lock);
	while ((slot = free_slot_locked(s)) < 0)
		pthread_cond_wait(&s->changed, &s->lock);
	s->slots[slot / 64] |= UINT64_C(1) << slot % 64;
	once = wire_once(++s->sequence, (unsigned)slot);
	pthread_mutex_unlock(&s->lock);
	return once;
}

/* Whatever of it is still on its way comes too late once the slot's next request has a higher number. */
static void once_end(struct head_state *s, uint64_t once)
{
	unsigned slot = wire_once_slot(once);

	pthread_mutex_lock(&s->lock);
	s->slots[slot / 64] &= ~(UINT64_C(1) << slot % 64);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* ---- requests ---- */

/* Errors that are plain answers about names; everything else is worth a line in .slabfs/errors. */
static bool is_plain_answer(int err)
{
	switch (-err) {
	case ENOENT:
	case EEXIST:
	case ENOTEMPTY:
	case ENODATA:
	case ENOTDIR:
	case EISDIR:
	case ERANGE:
	case ENAMETOOLONG:
	case EAGAIN: /* locked by another */
	case EDEADLK:
	case EBADF:  /* closed after the head was started anew */
	case ESTALE: /* removed; whoever still has it open gets to see it */
		return true;
	default:
		return false;
	}
}

static int as_io_error(int err)
{
	return client_away(err) || err == -ECANCELED || err == -EPROTO ? -EIO : err;
}

bool head_may_come_back(struct mount *m, uint64_t since_ns)
{
	uint64_t timeout_ns = m->options.timeout_ms * UINT64_C(1000000), lost_ns, now;

	poll(NULL, 0, RETRY_MS);
	lost_ns = atomic_load(&m->head_lost_ns);
	now = time_mono_ns();
	return !atomic_load(&m->stopping) && !interrupt_wanted() && (lost_ns == 0 || now - lost_ns < timeout_ns) &&
	       now - since_ns < MIN(RETRY_TIMEOUTS * timeout_ns, RETRY_MAX_SECONDS * UINT64_C(1000000000));
}

static int call_again_and_again(struct mount *m, struct call *call)
{
	const struct call first = *call;
	uint64_t since_ns = 0;
	int err = client_call(cluster_head(m->cluster), call);

	while (client_away(err)) {
		since_ns = since_ns ? since_ns : time_mono_ns();
		if (!head_may_come_back(m, since_ns))
			break;
		*call = first;
		err = client_call(cluster_head(m->cluster), call);
	}
	return err;
}

/* ret_wanted: how often there was something to tell so far. */
static bool is_reopening(struct head_state *s, uint64_t *ret_wanted)
{
	pthread_mutex_lock(&s->lock);
	bool is = s->reopen_done != s->reopen_wanted;
	*ret_wanted = s->reopen_wanted;
	pthread_mutex_unlock(&s->lock);
	return is;
}

/* A head that was just started does not know yet that an inode without a name is open here. */
static int call_once_reopened(struct mount *m, struct call *call)
{
	const struct call first = *call;
	uint64_t since_ns = time_mono_ns(), before, now;
	bool early = is_reopening(m->head, &before), late;
	int err = call_again_and_again(m, call);

	if (err != -ESTALE)
		return err;
	late = is_reopening(m->head, &now);
	if (!early && !late && before == now)
		return err;
	while (is_reopening(m->head, &now) && head_may_come_back(m, since_ns))
		;
	*call = first;
	return call_again_and_again(m, call);
}

bool head_is_near(struct mount *m)
{
	struct call ping = { .type = WIRE_PING };

	return time_mono_ns() - atomic_load(&m->head->heard_ns) < NEAR_NS || head_call(m, &ping) == 0;
}

int head_call(struct mount *m, struct call *call)
{
	uint64_t sent_ns = time_mono_ns();
	int err;

	if (wire_takes_once(call->type))
		call->once = once_begin(m->head);
	err = call_once_reopened(m, call);
	if (call->once)
		once_end(m->head, call->once);
	if (!err)
		atomic_store(&m->head->heard_ns, sent_ns);
	if (client_away(err) && interrupt_wanted())
		return -EINTR;
	if (err && !is_plain_answer(err)) {
		struct reason why = call->why;
		if (as_io_error(err) != err || err == -ETIMEDOUT)
			reason_set(&why, -err, "the head: %s: %s", wire_row(call->type)->name, call->why.text);
		err = errors_add(m, NULL, -as_io_error(err), &why);
	}
	return err;
}

/* ---- what is open there ---- */

/* The head keeps a set for each session: the first OPEN puts an inode into it, CLOSE takes it out.  Several OPENs of one inode may be on their
 * way; CLOSE is alone. */
int head_opens_begin(struct head_state *s, uint64_t ino)
{
	struct open_ino *o;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	while ((o = map_get(&s->opens, ino)) && o->busy && o->count == 0)
		pthread_cond_wait(&s->changed, &s->lock);
	if (!o) {
		o = calloc(1, sizeof(*o));
		err = o ? map_put(&s->opens, ino, o) : -ENOMEM;
		if (err)
			free(o);
	}
	if (!err)
		o->count++;
	pthread_mutex_unlock(&s->lock);
	return err;
}

/* From here on CLOSE is on its way. */
static void mark_closing_locked(struct head_state *s, struct open_ino *o, uint64_t ino)
{
	o->busy = true;
	s->closed[s->n_closed++ % CLOSED_KEPT] = ino;
}

static void forget_closed(struct head_state *s, uint64_t ino)
{
	pthread_mutex_lock(&s->lock);
	free(map_del(&s->opens, ino));
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* Its count is 0 and it is busy, so nobody else touches it. */
static void send_close(struct mount *m, uint64_t ino)
{
	struct wire_ino body = { .ino = le64_of(ino) };
	struct call call = { .type = WIRE_CLOSE, .body = &body, .body_bytes = sizeof(body) };

	head_call(m, &call);
	forget_closed(m->head, ino);
}

void head_opens_end(struct mount *m, uint64_t ino)
{
	struct head_state *s = m->head;
	struct open_ino *o;
	bool close;

	pthread_mutex_lock(&s->lock);
	o = map_get(&s->opens, ino);
	close = o && --o->count == 0 && !o->busy; /* else reopen closes it */
	if (close)
		mark_closing_locked(s, o, ino);
	pthread_mutex_unlock(&s->lock);
	if (close)
		send_close(m, ino);
}

uint64_t head_opens_mark(struct head_state *s)
{
	pthread_mutex_lock(&s->lock);
	uint64_t mark = s->n_closed;
	pthread_mutex_unlock(&s->lock);
	return mark;
}

static bool closed_since_locked(const struct head_state *s, uint64_t ino, uint64_t mark)
{
	if (s->n_closed - mark > CLOSED_KEPT)
		return true;
	for (; mark < s->n_closed; mark++)
		if (s->closed[mark % CLOSED_KEPT] == ino)
			return true;
	return false;
}

bool head_opens_made(struct head_state *s, uint64_t ino, uint64_t mark)
{
	struct open_ino *o;
	bool ok;

	pthread_mutex_lock(&s->lock);
	o = map_get(&s->opens, ino);
	ok = !closed_since_locked(s, ino, mark) && !(o && o->busy && o->count == 0);
	if (ok && !o) {
		o = calloc(1, sizeof(*o));
		ok = o && map_put(&s->opens, ino, o) == 0;
		if (!ok)
			free(o);
	}
	if (ok)
		o->count++;
	pthread_mutex_unlock(&s->lock);
	return ok;
}

bool head_opens_take(struct head_state *s, uint64_t ino)
{
	pthread_mutex_lock(&s->lock);
	struct open_ino *o = map_get(&s->opens, ino);
	bool ok = o && o->count == 1 && !o->busy;
	if (ok) {
		o->count = 0;
		mark_closing_locked(s, o, ino);
	}
	pthread_mutex_unlock(&s->lock);
	return ok;
}

void head_opens_taken(struct mount *m, uint64_t ino, bool done)
{
	if (done)
		forget_closed(m->head, ino);
	else
		send_close(m, ino);
}

static size_t list_opens(struct head_state *s, uint64_t **ret)
{
	size_t n = 0, pos = 0;
	uint64_t ino;
	void *value;

	pthread_mutex_lock(&s->lock);
	*ret = calloc(map_count(&s->opens) + 1, sizeof(**ret));
	while (*ret && map_next(&s->opens, &pos, &ino, &value))
		(*ret)[n++] = ino;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void reopen(struct mount *m, uint64_t ino)
{
	struct head_state *s = m->head;
	struct wire_open_reply reply;
	struct wire_open body = { .ino = le64_of(ino), .flags = le32_of(WIRE_OPEN_AGAIN) };
	struct call call = {
		.type = WIRE_OPEN, .body = &body, .body_bytes = sizeof(body), .reply_body = &reply, .alloc = true
	};
	struct open_ino *o;
	bool wanted, close;

	pthread_mutex_lock(&s->lock);
	o = map_get(&s->opens, ino);
	wanted = o && o->count > 0 && !o->busy;
	if (wanted)
		o->busy = true;
	pthread_mutex_unlock(&s->lock);
	if (!wanted)
		return;
	if (client_call(cluster_head(m->cluster), &call) == 0)
		free(call.reply_payload);
	pthread_mutex_lock(&s->lock);
	close = o->count == 0;
	o->busy = false;
	if (close)
		mark_closing_locked(s, o, ino);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (close)
		send_close(m, ino);
}

void head_is_back(struct mount *m)
{
	pthread_mutex_lock(&m->head->lock);
	m->head->reopen_wanted++;
	m->head->n_closed += CLOSED_KEPT + 1; /* it closed all: no request that is under way has opened anything */
	pthread_mutex_unlock(&m->head->lock);
}

void head_reopen_all(struct mount *m)
{
	struct head_state *s = m->head;
	uint64_t *inos, wanted;
	size_t n;

	pthread_mutex_lock(&s->lock);
	wanted = s->reopen_wanted;
	pthread_mutex_unlock(&s->lock);
	n = list_opens(s, &inos);
	for (size_t i = 0; i < n; i++)
		reopen(m, inos[i]);
	free(inos);
	pthread_mutex_lock(&s->lock);
	s->reopen_done = wanted;
	pthread_mutex_unlock(&s->lock);
}
