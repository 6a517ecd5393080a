#include "scrub.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "daemon.h"
#include "io.h"
#include "json.h"
#include "log.h"
#include "server.h"
#include "store.h"

#define SCRUB_NAME "scrub.json"
#define STEP_BYTES (UINT64_C(4) << 20) /* read at a time: at 64 MiB/s a sixteenth of a second */
#define WALK_PARTS 256
#define SAVE_NS UINT64_C(2000000000)
#define DAMAGED_MAX 1000 /* that are remembered; all are counted */
#define RATE_DEFAULT (UINT64_C(64) << 20)

enum state { IDLE, RUNNING, STOPPED, DONE };
static const char *const state_names[] = { "idle", "running", "stopped", "done" };

struct damaged {
	struct part_id id;
	char *reason;
};

struct scrub {
	struct daemon *d;
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	bool quit;
	enum state state;
	uint64_t rate;
	struct part_id at; /* everything up to here has been looked at */
	uint64_t partitions, bytes, skipped, expected, n_damaged;
	struct damaged damaged[DAMAGED_MAX];
	uint64_t saved_ns;
};

/* ---- what is remembered ---- */

static void forget_locked(struct scrub *s)
{
	for (size_t i = 0; i < MIN(s->n_damaged, DAMAGED_MAX); i++)
		free(s->damaged[i].reason);
	s->partitions = s->bytes = s->skipped = s->n_damaged = 0;
	s->at = (struct part_id){ 0 };
}

static void add_damaged_locked(struct scrub *s, struct part_id id, const char *reason)
{
	if (s->n_damaged < DAMAGED_MAX)
		s->damaged[s->n_damaged] = (struct damaged){ id, strdup(reason) };
	s->n_damaged++;
}

static int put_u64(struct json *j, const char *key, uint64_t v)
{
	return json_set(j, key, json_new_u64(v));
}

static int put_damaged_locked(struct scrub *s, struct json *j)
{
	struct json *list = json_new_array();

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < MIN(s->n_damaged, DAMAGED_MAX); i++) {
		const struct damaged *d = &s->damaged[i];
		struct json *one = json_new_object();
		if (!one || put_u64(one, "object", d->id.object) || put_u64(one, "partition", d->id.index) ||
		    json_set(one, "reason", json_new_string(d->reason ? d->reason : "")) || json_append(list, one))
			return -ENOMEM;
	}
	return json_set(j, "damaged", list);
}

static char *text_locked(struct scrub *s)
{
	struct json *j = json_new_object();
	char *text = NULL;

	if (j && !json_set(j, "state", json_new_string(state_names[s->state])) && !put_u64(j, "rate", s->rate) &&
	    !put_u64(j, "object", s->at.object) && !put_u64(j, "index", s->at.index) &&
	    !put_u64(j, "partitions", s->partitions) && !put_u64(j, "bytes", s->bytes) &&
	    !put_u64(j, "skipped", s->skipped) && !put_u64(j, "expected_partitions", s->expected) &&
	    !put_u64(j, "damaged_partitions", s->n_damaged) && !put_damaged_locked(s, j))
		text = json_text(j, true);
	json_free(j);
	return text;
}

static void save_locked(struct scrub *s)
{
	AUTO_FREE char *text = text_locked(s);
	int err = text ? io_publish(s->d->store_fd, SCRUB_NAME, text, strlen(text), 0600) : -ENOMEM;

	s->saved_ns = time_mono_ns();
	if (err)
		log_warn("scrub: " SCRUB_NAME ": %s", strerror(-err));
}

static uint64_t get_u64(const struct json *j, const char *key)
{
	const struct json *v = json_get(j, key);
	uint64_t n;

	return v && json_u64(v, &n) == 0 ? n : 0;
}

static void load_state(struct scrub *s, const struct json *j)
{
	const struct json *list = json_get(j, "damaged"), *state = json_get(j, "state");
	const char *text;

	for (size_t i = 0; state && i < ARRAY_LEN(state_names); i++)
		if (json_string(state, &text) == 0 && !strcmp(text, state_names[i]))
			s->state = (enum state)i;
	s->rate = get_u64(j, "rate") ? get_u64(j, "rate") : RATE_DEFAULT;
	s->at = (struct part_id){ get_u64(j, "object"), get_u64(j, "index") };
	s->partitions = get_u64(j, "partitions");
	s->bytes = get_u64(j, "bytes");
	s->skipped = get_u64(j, "skipped");
	s->expected = get_u64(j, "expected_partitions");
	for (size_t i = 0; list && i < json_length(list); i++) {
		const struct json *one = json_at(list, i), *reason = json_get(one, "reason");
		if (!reason || json_string(reason, &text) < 0)
			text = "";
		add_damaged_locked(s, (struct part_id){ get_u64(one, "object"), get_u64(one, "partition") }, text);
	}
	s->n_damaged = MAX(s->n_damaged, get_u64(j, "damaged_partitions"));
}

/* A file that is damaged itself is as good as none. */
static void load(struct scrub *s)
{
	AUTO_FREE char *text = NULL;
	struct json *j;
	size_t len;

	if (io_read_file(s->d->store_fd, SCRUB_NAME, 1u << 20, &text, &len) < 0 || json_parse(text, len, &j, NULL) < 0)
		return;
	if (json_is_object(j))
		load_state(s, j);
	json_free(j);
}

/* ---- the thread ---- */

/* Sleeps so that no more than the rate is read; false: it is to stop. */
static bool pace(struct scrub *s, uint64_t bytes, uint64_t since_ns)
{
	bool go;

	pthread_mutex_lock(&s->lock);
	uint64_t until_ns = since_ns + (uint64_t)((double)bytes / (double)s->rate * 1e9);
	struct timespec until = { (time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000) };
	while (!s->quit && s->state == RUNNING && time_mono_ns() < until_ns)
		pthread_cond_timedwait(&s->wake, &s->lock, &until);
	go = !s->quit && s->state == RUNNING;
	pthread_mutex_unlock(&s->lock);
	return go;
}

/* false: stopped on the way: it is looked at again. */
static bool scrub_one(struct scrub *s, struct part_id id)
{
	struct reason why = { "" };
	uint64_t offset = 0, bytes = 0;
	bool go = true;
	int err;

	do {
		uint64_t since = time_mono_ns();
		err = store_scrub(s->d->store, id, offset, STEP_BYTES, &bytes, &why);
		go = pace(s, MAX(err ? 0 : MIN(STEP_BYTES, bytes - MIN(bytes, offset)), 4096), since);
		offset += STEP_BYTES;
	} while (!err && go && offset < bytes);
	if (!go && !err && offset < bytes)
		return false;
	pthread_mutex_lock(&s->lock);
	if (s->state == RUNNING || err) {
		s->partitions += bytes > 0 || err;
		s->skipped += !bytes && !err;
		s->bytes += err ? 0 : bytes;
		s->at = id;
		if (err)
			add_damaged_locked(s, id, why.text);
		if (err || time_mono_ns() - s->saved_ns > SAVE_NS)
			save_locked(s);
	}
	pthread_mutex_unlock(&s->lock);
	return go;
}

static void finish(struct scrub *s, int err)
{
	pthread_mutex_lock(&s->lock);
	if (err) {
		s->state = STOPPED;
		log_error("scrub: stopped: the store's catalog: %s", strerror(-err));
	} else {
		s->state = DONE;
		log_info("scrub: %" PRIu64 " partitions, %" PRIu64 " bytes, %" PRIu64 " damaged", s->partitions,
			 s->bytes, s->n_damaged);
	}
	save_locked(s);
	pthread_mutex_unlock(&s->lock);
}

static void run(struct scrub *s, struct part_id at)
{
	struct part_id ids[WALK_PARTS];
	bool go = true;
	size_t n = 1;
	int err = 0;

	while (go && !err && n > 0) {
		err = store_walk(s->d->store, at, WALK_PARTS, ids, &n);
		for (size_t i = 0; go && !err && i < n; i++)
			go = scrub_one(s, at = ids[i]);
	}
	if (go)
		finish(s, err);
}

static void *scrub_main(void *arg)
{
	struct scrub *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->quit) {
		struct part_id at = s->at;
		if (s->state != RUNNING) {
			pthread_cond_wait(&s->wake, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		run(s, at);
		pthread_mutex_lock(&s->lock);
	}
	save_locked(s);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int scrub_new(struct daemon *d, struct scrub **ret)
{
	struct scrub *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	int err;

	if (!s)
		return -ENOMEM;
	s->d = d;
	s->rate = RATE_DEFAULT;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	load(s);
	err = -pthread_create(&s->thread, NULL, scrub_main, s);
	if (err)
		free(s);
	else
		*ret = s;
	return err;
}

void scrub_free(struct scrub *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->quit = true;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	forget_locked(s);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- requests ---- */

static int start(struct scrub *s, uint64_t rate, struct reason *why)
{
	struct store_stats st;
	int err = store_sync(s->d->store, 0, why); /* what is not durable is not looked at */

	if (err)
		return err;
	store_stats(s->d->store, &st);
	pthread_mutex_lock(&s->lock);
	s->rate = rate;
	if (s->state != RUNNING && s->state != STOPPED)
		forget_locked(s);
	s->expected = st.partitions;
	s->state = RUNNING;
	save_locked(s);
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void stop(struct scrub *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->state == RUNNING) {
		s->state = STOPPED;
		save_locked(s);
	}
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static int handle_scrub(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_scrub *w = r->body;
	uint32_t action = le32_get(w->action);
	uint64_t rate = le64_get(w->rate);
	int err = 0;

	if (action > WIRE_SCRUB_STOP || le32_get(w->reserved) ||
	    (action == WIRE_SCRUB_START && (!rate || rate > INT64_MAX)))
		return reason_set(why, EINVAL, "SCRUB: action %u at %" PRIu64 " bytes a second", action, rate);
	if (action == WIRE_SCRUB_START)
		err = start(d->scrub, rate, why);
	else if (action == WIRE_SCRUB_STOP)
		stop(d->scrub);
	if (err)
		return err;
	pthread_mutex_lock(&d->scrub->lock);
	AUTO_FREE char *text = text_locked(d->scrub);
	pthread_mutex_unlock(&d->scrub->lock);
	if (!text)
		return -ENOMEM;
	request_reply(r, NULL, text, strlen(text));
	return 0;
}

static const struct handler handlers[] = { { WIRE_SCRUB, true, handle_scrub }, { 0 } };
const struct module scrub_module = { "scrub", handlers, NULL, NULL, NULL };
