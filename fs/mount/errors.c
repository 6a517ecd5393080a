#include "errors.h"
#include "log.h"
#include "mount.h"
#include "node.h"

#include <stdio.h>
#include <time.h>

#define REPEAT_NS UINT64_C(1000000000) /* the same failure again within this time is counted, not repeated */

struct error_line {
	uint64_t time_ns; /* real time, of the first */
	uint64_t last_ns; /* monotonic, of the last */
	uint64_t ino;     /* 0: of no node */
	uint64_t times;
	int err;
	char *path; /* NULL: of no node */
	struct reason why;
};

struct errors {
	pthread_mutex_t lock; /* guards all below */
	uint64_t n_lines;     /* ever added: line i is in ring[i % ERRORS_KEPT] */
	uint64_t count;       /* failures, repetitions included */
	struct error_line ring[ERRORS_KEPT];
};

int errors_new(struct errors **ret)
{
	struct errors *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	pthread_mutex_init(&e->lock, NULL);
	*ret = e;
	return 0;
}

void errors_free(struct errors *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < ERRORS_KEPT; i++)
		free(e->ring[i].path);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static const char *errno_name(int err)
{
	const char *name = strerrorname_np(err);

	return name ? name : "EUNKNOWN";
}

static bool repeats(const struct errors *e, const struct error_line *line)
{
	const struct error_line *last = &e->ring[(e->n_lines + ERRORS_KEPT - 1) % ERRORS_KEPT];

	return e->n_lines > 0 && last->ino == line->ino && last->err == line->err &&
	       !strcmp(last->why.text, line->why.text) && line->last_ns - last->last_ns < REPEAT_NS;
}

/* Takes line->path.  True when it is a new line. */
static bool keep(struct errors *e, struct error_line *line)
{
	struct error_line *slot;
	bool fresh;

	pthread_mutex_lock(&e->lock);
	e->count++;
	fresh = !repeats(e, line);
	if (fresh) {
		slot = &e->ring[e->n_lines++ % ERRORS_KEPT];
		free(slot->path);
		*slot = *line;
	} else {
		slot = &e->ring[(e->n_lines - 1) % ERRORS_KEPT];
		slot->times++;
		slot->last_ns = line->last_ns;
		free(line->path);
	}
	pthread_mutex_unlock(&e->lock);
	return fresh;
}

static void no_control_characters(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = '?';
}

int errors_add(struct mount *m, const struct node *node, int err, const struct reason *why)
{
	char path[4096];
	struct error_line line = { .time_ns = time_real_ns(), .last_ns = time_mono_ns(), .times = 1, .err = abs(err) };

	if (line.err == EINTR) /* its process was told to end, which is no news */
		return -EINTR;
	if (why && why->text[0])
		line.why = *why;
	else
		snprintf(line.why.text, sizeof(line.why.text), "%s",
			 strerrordesc_np(line.err) ? strerrordesc_np(line.err) : "unknown error");
	if (node) {
		node_path(m, node, path, sizeof(path));
		no_control_characters(path);
		line.ino = node->ino;
		line.path = strdup(path);
	}
	if (keep(m->errors, &line))
		log_warn("%s%s%s: %s", errno_name(line.err), node ? " " : "", node ? path : "", line.why.text);
	return -line.err;
}

static void print_line(FILE *out, const struct error_line *l)
{
	time_t sec = (time_t)(l->time_ns / 1000000000);
	struct tm tm;

	gmtime_r(&sec, &tm);
	fprintf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ %s", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		tm.tm_min, tm.tm_sec, (unsigned)(l->time_ns / 1000000 % 1000), errno_name(l->err));
	fprintf(out, "%s%s: %s", l->path ? " " : "", l->path ? l->path : "", l->why.text);
	if (l->times > 1)
		fprintf(out, " (%llu times)", (unsigned long long)l->times);
	fputc('\n', out);
}

char *errors_text(struct errors *e, size_t *ret_len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_len);

	if (!out)
		return NULL;
	pthread_mutex_lock(&e->lock);
	for (uint64_t i = e->n_lines > ERRORS_KEPT ? e->n_lines - ERRORS_KEPT : 0; i < e->n_lines; i++)
		print_line(out, &e->ring[i % ERRORS_KEPT]);
	pthread_mutex_unlock(&e->lock);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

uint64_t errors_count(struct errors *e)
{
	pthread_mutex_lock(&e->lock);
	uint64_t count = e->count;
	pthread_mutex_unlock(&e->lock);
	return count;
}
