#include "fan.h"
#include "head_call.h"
#include "interrupt.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>

#define SLICE_MS 100 /* how often calls other than the one that is waited for are looked at */
#define RETRY_MS 50
#define RETRY_TIMEOUTS 6 /* a node that comes and goes is put up with for so many timeouts */

struct fan {
	struct mount *m;
	struct fan_call *calls;
	size_t n;
	bool may_stop;        /* a question of the user's, not worth an unmount's waiting */
	pthread_mutex_t lock; /* guards stop, and live of the calls */
	_Atomic bool stop;    /* all that is live was cancelled, and what starts will be */
};

/* Whether a node that failed so may be back in time. */
static bool may_come_back(const struct mount *m, const struct client *c, int err, uint64_t first_failed_ns)
{
	uint64_t timeout_ns = m->options.timeout_ms * UINT64_C(1000000), lost_ns = client_lost_ns(c),
		 now = time_mono_ns();

	return client_away(err) && (!lost_ns || now < lost_ns + timeout_ns) &&
	       now < first_failed_ns + RETRY_TIMEOUTS * timeout_ns;
}

static int errno_of(int err)
{
	switch (-err) {
	case ENODATA:
	case ENODEV:
	case EPROTO:
	case EPROTONOSUPPORT:
	case EMSGSIZE:
	case EACCES:
	case ECANCELED:
		return -EIO;
	default:
		return client_away(err) ? -EIO : err;
	}
}

static void name_node(struct reason *why, uint32_t node_id, int err)
{
	char text[sizeof(why->text)];

	memcpy(text, why->text, sizeof(text));
	if (!text[0])
		snprintf(text, sizeof(text), "%s", strerror(-err));
	reason_set(why, -err, "node %u: %.*s", node_id, (int)sizeof(text) - 20, text);
}

int fan_to(struct mount *m, uint32_t node_id, struct fan_call *call, struct reason *why)
{
	struct reason cause = { "" };
	uint64_t since_ns = time_mono_ns();
	int err = cluster_node(m->cluster, node_id, &call->client, &cause);

	while (client_away(err) && head_may_come_back(m, since_ns))
		err = cluster_node(m->cluster, node_id, &call->client, &cause);
	call->node_id = node_id;
	if (!err)
		return 0;
	name_node(&cause, node_id, err);
	return reason_set(why, interrupt_wanted() ? EINTR : -errno_of(err), "%s", cause.text);
}

int fan_hello(struct mount *m, struct fan_call *call, struct wire_hello_reply *ret, struct reason *why)
{
	struct reason cause = { "" };
	int err = client_hello(call->client, ret, &cause);

	for (uint64_t since_ns = time_mono_ns();
	     err && !interrupt_wanted() && may_come_back(m, call->client, err, since_ns);) {
		poll(NULL, 0, RETRY_MS);
		cluster_node(m->cluster, call->node_id, &call->client, NULL);
		err = client_hello(call->client, ret, &cause);
	}
	if (!err)
		return 0;
	name_node(&cause, call->node_id, err);
	return reason_set(why, interrupt_wanted() ? EINTR : -errno_of(err), "%s", cause.text);
}

static bool bounded(const struct fan_call *c)
{
	return c->call.timeout_ms != FAN_NO_DEADLINE;
}

static void stop_all(void *arg)
{
	struct fan *f = arg;

	pthread_mutex_lock(&f->lock);
	f->stop = true;
	for (size_t i = 0; i < f->n; i++)
		if (f->calls[i].live)
			client_cancel(f->calls[i].client, &f->calls[i].call);
	pthread_mutex_unlock(&f->lock);
}

/* Connecting may take its time, so the lock is only taken afterwards; a stop that came in between is caught up with. */
static void start(struct fan *f, struct fan_call *c)
{
	int err = client_start(c->client, &c->call);

	c->err = err;
	c->heard_ns = time_mono_ns();
	if (err)
		return;
	pthread_mutex_lock(&f->lock);
	c->live = true;
	if (f->stop)
		client_cancel(c->client, &c->call);
	pthread_mutex_unlock(&f->lock);
}

static void end_ping(struct fan_call *c)
{
	if (!c->ping)
		return;
	client_cancel(c->client, c->ping);
	client_wait(c->client, c->ping);
	free(c->ping);
	c->ping = NULL;
}

static int start_ping(struct fan *f, struct fan_call *c, struct reason *why)
{
	int err;

	c->ping = calloc(1, sizeof(*c->ping));
	if (!c->ping)
		return -ENOMEM;
	c->ping->type = WIRE_PING;
	c->ping->timeout_ms = f->m->options.timeout_ms;
	err = client_start(c->client, c->ping);
	if (err) {
		*why = c->ping->why;
		free(c->ping);
		c->ping = NULL;
	}
	return err;
}

/* Whether the node answers; false with the failure of the ping. */
static bool alive(struct fan *f, struct fan_call *c, int *ret_err, struct reason *why)
{
	if (!c->ping) {
		if (time_mono_ns() - c->heard_ns < f->m->options.timeout_ms * UINT64_C(1000000) / 4)
			return true;
		*ret_err = start_ping(f, c, why);
		return *ret_err == 0;
	}
	if (!client_wait_for(c->client, c->ping, 0, ret_err))
		return true;
	*why = c->ping->why;
	free(c->ping);
	c->ping = NULL;
	c->heard_ns = time_mono_ns();
	return *ret_err == 0;
}

/* True when it is over and has been waited for. */
static bool wait_slice(struct fan *f, struct fan_call *c, unsigned ms, int *ret_err)
{
	struct reason why = { "" };

	if (!c->live) {
		*ret_err = c->err;
		return true;
	}
	if (client_wait_for(c->client, &c->call, ms, ret_err))
		return true;
	if (bounded(c) || alive(f, c, ret_err, &why))
		return false;
	client_cancel(c->client, &c->call);
	client_wait(c->client, &c->call);
	c->call.why = why;
	return true;
}

/* The call failed: true when it is to be sent again in a while. */
static bool again(struct fan *f, struct fan_call *c, int err)
{
	uint64_t now = time_mono_ns();

	if (!c->retry || f->stop || (f->may_stop && atomic_load(&f->m->stopping)))
		return false;
	c->failed_ns = c->failed_ns ? c->failed_ns : now;
	if (!may_come_back(f->m, c->client, err, c->failed_ns))
		return false;
	c->retry_ns = now + RETRY_MS * UINT64_C(1000000);
	return true;
}

/* Its node may have come back at another address.  False: not yet, for as long as `ms` at most. */
static bool sent_again(struct fan *f, struct fan_call *c, unsigned ms)
{
	uint64_t now = time_mono_ns();

	if (now < c->retry_ns && !f->stop) {
		poll(NULL, 0, (int)MIN(ms, (c->retry_ns - now) / 1000000 + 1));
		return false;
	}
	c->retry_ns = 0;
	c->call.why.text[0] = '\0';
	if (c->again_flags)
		*c->again_flags = le32_of(le32_get(*c->again_flags) | c->again);
	cluster_node(f->m->cluster, c->node_id, &c->client, NULL);
	start(f, c);
	return true;
}

/* True when the call is over. */
static bool settle(struct fan *f, struct fan_call *c, unsigned ms)
{
	int err;

	if (c->retry_ns && !sent_again(f, c, ms))
		return false;
	if (!wait_slice(f, c, ms, &err))
		return false;
	pthread_mutex_lock(&f->lock);
	c->live = false;
	pthread_mutex_unlock(&f->lock);
	end_ping(c);
	if (err && again(f, c, err))
		return false;
	c->err = errno_of(err);
	if (err)
		name_node(&c->call.why, c->node_id, err);
	return true;
}

static void settle_all(struct fan *f, bool all_or_none, int *ret_err, size_t *ret_failed, bool *over)
{
	unsigned slices = 0;

	for (size_t first = 0; first < f->n;) {
		if (over[first]) {
			first++;
			continue;
		}
		unsigned ms = SLICE_MS;
		if ((f->may_stop && atomic_load(&f->m->stopping)) || (slices++ > 0 && interrupt_wanted()))
			stop_all(f);
		for (size_t i = first; i < f->n; i++) {
			if (over[i])
				continue;
			over[i] = settle(f, &f->calls[i], ms);
			if (over[i] && f->calls[i].err && !*ret_err) {
				*ret_err = f->calls[i].err;
				*ret_failed = i;
				if (all_or_none)
					stop_all(f);
			}
			if (i == first && over[i])
				break;
			ms = 0;
		}
	}
}

int fan_run(struct mount *m, struct fan_call *calls, size_t n, bool all_or_none, struct cancel *cancel,
	    size_t *ret_failed)
{
	struct fan f = { .m = m, .calls = calls, .n = n, .may_stop = cancel != NULL };
	AUTO_FREE bool *over = calloc(n + 1, sizeof(*over));
	size_t failed = 0;
	int err = 0;

	if (!over)
		return -ENOMEM;
	pthread_mutex_init(&f.lock, NULL);
	if (cancel)
		cancel_watch(cancel, stop_all, &f);
	for (size_t i = 0; i < n; i++)
		start(&f, &calls[i]);
	settle_all(&f, all_or_none, &err, &failed, over);
	if (cancel)
		cancel_watch(cancel, NULL, NULL);
	pthread_mutex_destroy(&f.lock);
	if (err && ((cancel && atomic_load(&cancel->on)) || interrupt_wanted()))
		err = -EINTR;
	if (err && ret_failed)
		*ret_failed = failed;
	return err;
}
