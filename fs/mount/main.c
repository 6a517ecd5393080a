/* main.c - slabfs: mounts a cluster's tree.  Usage and exit codes are in slabfs(1). */
#include "array.h"
#include "errors.h"
#include "file.h"
#include "head.h"
#include "head_call.h"
#include "idle.h"
#include "inval.h"
#include "locks.h"
#include "log.h"
#include "mount.h"
#include "node.h"
#include "ops.h"
#include "readtime.h"
#include "superblock.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define TIMEOUT_DEFAULT_S 10
#define TIMEOUT_MAX_S 3600
#define CONNECTIONS 4
#define SLOW_THREADS 16
#define CONTROL_THREADS 2
#define SLOW_QUEUE 1024

struct program {
	struct mount mount;
	char store[PATH_MAX]; /* empty: SOURCE is HOST:PORT */
	char head[320], local[PATH_MAX + 32];
	char key_path[PATH_MAX], log_path[PATH_MAX];
	char mountpoint[PATH_MAX];
	char fuse_options[768];
	char name[512];
	struct superblock sb;
	uint8_t key[CLUSTER_KEY_BYTES];
	bool daemonize, debug;
	int ready_fd; /* the parent's pipe, or -1 */
};

static void usage(FILE *to)
{
	fprintf(to,
		"usage: slabfs SOURCE MOUNTPOINT [-f] [-d] [-o OPTIONS]\n"
		"\n"
		"Mounts the tree of a slabfs cluster.\n"
		"  SOURCE        a store on this machine, or HOST:PORT[:/PATH] of the head with -o key=FILE\n"
		"  -f            stay in the foreground, log to stderr\n"
		"  -d            as -f, and log more\n"
		"  -o OPTIONS    comma-separated:\n"
		"      key=FILE         the cluster's key (default: the store's)\n"
		"      timeout=SECONDS  after which an operation on a node that does not answer fails (default 10)\n"
		"      show_views       list data, data.npy and compute/ in arrays\n"
		"      strict           every operation sees all that completed before it, on any mount\n"
		"      passthrough      let the kernel read files of one partition on this machine by itself\n"
		"      log=FILE         where to log when in the background (default: nowhere)\n"
		"      and those of FUSE: ro, allow_other, nosuid, nodev, noexec, ...\n"
		"  --help, --version\n");
}

static int usage_error(const char *what, const char *arg)
{
	fprintf(stderr, "slabfs: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
	fprintf(stderr, "slabfs: see slabfs --help\n");
	return 2;
}

/* ---- options ---- */

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(word, *words))
			return true;
	return false;
}

/* Options that mount(8) and fstab add, and that mean nothing here. */
static bool is_for_others(const char *word)
{
	static const char *const words[] = { "rw",    "auto",    "noauto", "user",     "nouser",
					     "users", "_netdev", "nofail", "defaults", "default_permissions",
					     NULL };

	return is_one_of(word, words) || !strncmp(word, "x-", 2);
}

static bool is_for_fuse(const char *word)
{
	static const char *const words[] = { "ro",    "allow_other", "allow_root",   "nosuid",  "suid",  "nodev",
					     "dev",   "noexec",      "exec",         "noatime", "atime", "sync",
					     "async", "dirsync",     "auto_unmount", NULL };

	return is_one_of(word, words);
}

static int take_option(struct program *p, const char *word)
{
	uint64_t seconds;

	if (!strncmp(word, "key=", 4)) {
		snprintf(p->key_path, sizeof(p->key_path), "%s", word + 4);
	} else if (!strncmp(word, "log=", 4)) {
		snprintf(p->log_path, sizeof(p->log_path), "%s", word + 4);
	} else if (!strncmp(word, "timeout=", 8)) {
		if (parse_u64(word + 8, TIMEOUT_MAX_S, &seconds) || seconds == 0)
			return usage_error("timeout= takes a whole number of seconds from 1 to 3600", word + 8);
		p->mount.options.timeout_ms = (unsigned)seconds * 1000;
	} else if (!strcmp(word, "passthrough")) {
		p->mount.options.passthrough = true;
	} else if (!strcmp(word, "strict")) {
		p->mount.options.strict = true;
	} else if (!strcmp(word, "show_views")) {
		p->mount.options.show_views = true;
	} else if (is_for_fuse(word)) {
		p->mount.options.noatime |= !strcmp(word, "noatime") || !strcmp(word, "ro");
		size_t at = strlen(p->fuse_options);
		if (at + strlen(word) + 2 > sizeof(p->fuse_options))
			return usage_error("too many options", NULL);
		snprintf(p->fuse_options + at, sizeof(p->fuse_options) - at, "%s%s", at ? "," : "", word);
	} else if (!is_for_others(word)) {
		return usage_error("unknown option -o", word);
	}
	return 0;
}

static int take_options(struct program *p, char *list)
{
	char *save = NULL;
	int code = 0;

	for (char *word = strtok_r(list, ",", &save); word && !code; word = strtok_r(NULL, ",", &save))
		code = take_option(p, word);
	return code;
}

/* HOST:PORT[:/PATH], [V6]:PORT[:/PATH] */
static int take_remote(struct program *p, const char *source)
{
	const char *path = strstr(source, ":/");
	size_t len = path ? (size_t)(path - source) : strlen(source);
	char host[256], address[300];
	uint16_t port;

	if (len >= sizeof(address))
		return usage_error("not a store and not HOST:PORT[:/PATH]", source);
	snprintf(address, sizeof(address), "%.*s", (int)len, source);
	if (address_split(address, SLAB_DEFAULT_PORT, host, &port))
		return usage_error("not a store and not HOST:PORT[:/PATH]", source);
	snprintf(p->head, sizeof(p->head), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
	snprintf(p->mount.options.root_path, sizeof(p->mount.options.root_path), "%s", path ? path + 1 : "/");
	if (!p->key_path[0])
		return usage_error("HOST:PORT needs -o key=FILE", NULL);
	return 0;
}

static int take_source(struct program *p, const char *source)
{
	struct stat st;

	p->mount.options.source = source;
	snprintf(p->mount.options.root_path, sizeof(p->mount.options.root_path), "/");
	if (stat(source, &st) || !S_ISDIR(st.st_mode)) {
		if (strchr(source, '/') == source)
			return usage_error("no such store", source);
		return take_remote(p, source);
	}
	if (!realpath(source, p->store))
		return usage_error("no such store", source);
	return 0;
}

static int parse_arguments(struct program *p, int argc, char **argv)
{
	static const struct option longs[] = { { "help", no_argument, NULL, 'h' },
					       { "version", no_argument, NULL, 'V' },
					       { 0 } };
	int c, code = 0;

	while ((c = getopt_long(argc, argv, "fdhVo:nsv", longs, NULL)) != -1 && !code) {
		if (c == 'h') {
			usage(stdout);
			exit(0);
		} else if (c == 'V') {
			printf("slabfs %s (libfuse %s)\n", SLAB_VERSION, ops_fuse_version());
			exit(0);
		} else if (c == 'f' || c == 'd') {
			p->daemonize = false;
			p->debug |= c == 'd';
		} else if (c == 'o') {
			code = take_options(p, optarg);
		} else if (c == '?') {
			code = 2;
		}
	}
	if (code)
		return code;
	if (argc - optind != 2)
		return usage_error("needs SOURCE and MOUNTPOINT", NULL);
	if (!realpath(argv[optind + 1], p->mountpoint))
		return usage_error(strerror(errno), argv[optind + 1]);
	p->mount.options.mountpoint = p->mountpoint;
	if (p->mount.options.strict && p->mount.options.passthrough)
		return usage_error("-o strict and -o passthrough exclude each other", NULL);
	return take_source(p, argv[optind]);
}

/* ---- the background ---- */

/* Forks before any thread exists.  The parent waits for one byte: the exit code. */
static void go_to_background(struct program *p)
{
	int fds[2];
	unsigned char code = 1;

	if (pipe2(fds, O_CLOEXEC)) {
		perror("slabfs: pipe");
		exit(1);
	}
	pid_t child = fork();
	if (child < 0) {
		perror("slabfs: fork");
		exit(1);
	}
	if (child > 0) {
		close(fds[1]);
		ssize_t n = read(fds[0], &code, 1);
		_exit(n == 1 ? code : 1);
	}
	close(fds[0]);
	p->ready_fd = fds[1];
	setsid();
}

/* In the background stderr was the caller's until now, so that it saw why a mount failed. */
static void leave_terminal(struct program *p)
{
	const char *path = p->log_path[0] ? p->log_path : "/dev/null";
	int null = open("/dev/null", O_RDWR | O_CLOEXEC),
	    log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		close(null);
	}
	if (log >= 0) {
		dup2(log, STDERR_FILENO);
		close(log);
	}
	if (chdir("/"))
		log_warn("chdir /: %s", strerror(errno));
}

static void mounted(void *arg)
{
	struct program *p = arg;
	unsigned char code = 0;

	if (p->ready_fd < 0) {
		printf("slabfs: mounted %s on %s\n", p->mount.options.source, p->mountpoint);
		fflush(stdout);
		return;
	}
	leave_terminal(p);
	ssize_t ignored = write(p->ready_fd, &code, 1);
	(void)ignored;
	close(p->ready_fd);
	p->ready_fd = -1;
}

/* ---- the mount ---- */

static void on_push(void *arg, uint64_t id, const struct wire_header *h, const void *body, const void *payload,
		    size_t len)
{
	if (le16_get(h->type) == WIRE_INVAL)
		inval_push(arg, id, body, payload, len);
}

static void on_state(void *arg, bool up, const struct wire_hello_reply *hello)
{
	struct mount *m = arg;
	bool was_lost = atomic_exchange(&m->head_lost_ns, up ? 0 : time_mono_ns()) != 0;

	(void)hello;
	if (!up)
		log_info("the head is lost; nothing cached is trusted until it is back");
	else if (was_lost)
		log_info("the head is back");
	if (up)
		head_is_back(m);
	inval_all(m);
	if (up) {
		inval_reopen(m);
		locks_head_back(m);
	}
}

static int read_identity(struct program *p, struct reason *why)
{
	int err = 0;

	if (p->store[0]) {
		err = superblock_read(p->store, &p->sb, why);
		if (err)
			return err;
		snprintf(p->local, sizeof(p->local), "unix:%s/%s", p->store, STORE_SOCKET);
		if (p->sb.is_head)
			snprintf(p->head, sizeof(p->head), "%.319s", p->local);
		else
			snprintf(p->head, sizeof(p->head), "%s", p->sb.head);
		if (!p->key_path[0])
			snprintf(p->key_path, sizeof(p->key_path), "%.4000s/cluster.key", p->store);
	}
	return cluster_key_read(p->key_path, p->key, why);
}

static int connect_cluster(struct program *p, struct reason *why)
{
	struct cluster_config config = { .head = p->head,
					 .local = p->local[0] ? p->local : NULL,
					 .local_id = p->sb.node_id,
					 .key = p->key,
					 .name = p->name,
					 .n_connections = CONNECTIONS,
					 .timeout_ms = p->mount.options.timeout_ms,
					 .push = on_push,
					 .state = on_state,
					 .arg = &p->mount };
	char host[256] = "?";
	int err;

	gethostname(host, sizeof(host) - 1);
	snprintf(p->name, sizeof(p->name), "mount %.100s:%.300s pid %d", host, p->mountpoint, (int)getpid());
	config.hello.cluster = p->sb.cluster;
	config.hello.role = le32_of(WIRE_ROLE_MOUNT);
	config.hello.node_id = le32_of(p->sb.node_id);
	err = head_state_new(&p->mount.head);
	if (!err)
		err = uuid_new(&config.hello.session);
	if (!err)
		err = cluster_new(&config, &p->mount.cluster);
	return err ? reason_set(why, -err, "%s", strerror(-err)) : 0;
}

static int find_root(struct mount *m, struct reason *why)
{
	AUTO_FREE char *path = strdup(m->options.root_path);
	struct wire_attr attr;
	struct wire_hello_reply hello;
	char *save = NULL;
	uint64_t seq;
	int err = path ? client_hello(cluster_head(m->cluster), &hello, why) : -ENOMEM;

	if (err)
		return err;
	err = head_getattr(m, 1, &attr, &seq);
	for (char *name = strtok_r(path, "/", &save); name && !err; name = strtok_r(NULL, "/", &save))
		err = head_lookup(m, le64_get(attr.ino), name, &attr, &seq);
	if (!err && !S_ISDIR(le32_get(attr.mode)))
		err = -ENOTDIR;
	if (err)
		return reason_set(why, -err, "%s: %s", m->options.root_path, strerror(-err));
	return node_of_attr(m, &attr, seq, 0, "", &m->root);
}

static int prepare(struct program *p, struct reason *why)
{
	struct mount *m = &p->mount;
	int err;

	m->uid = getuid();
	m->gid = getgid();
	m->started_ns = time_real_ns();
	pthread_mutex_init(&m->table_lock, NULL);
	map_init(&m->nodes);
	map_init(&m->arrays);
	err = read_identity(p, why);
	if (!err)
		err = errors_new(&m->errors);
	if (!err)
		err = readtimes_new(&m->readtimes);
	if (!err)
		err = pool_new(SLOW_THREADS, SLOW_QUEUE, &m->slow);
	if (!err)
		err = pool_new(CONTROL_THREADS, SLOW_QUEUE, &m->control);
	if (!err)
		err = inval_new(m, &m->inval);
	if (!err)
		err = locks_new(m, &m->locks);
	if (!err)
		err = idle_new(m, &m->idle);
	if (!err)
		err = connect_cluster(p, why);
	if (!err)
		err = find_root(m, why);
	return err;
}

/* Nodes that the kernel has not forgotten go with the mount. */
static void free_nodes(struct mount *m)
{
	struct node **nodes = calloc(map_count(&m->nodes) + 1, sizeof(*nodes));
	size_t n = 0, pos = 0;
	uint64_t key;
	void *value;

	while (nodes && map_next(&m->nodes, &pos, &key, &value))
		nodes[n++] = value;
	for (size_t i = 0; i < n; i++)
		node_unref_many(m, nodes[i], atomic_load(&nodes[i]->refs));
	free(nodes);
}

static void flush_array(struct mount *m, struct array *a)
{
	struct reason why = { "" };

	if (array_dirty(a))
		array_flush(m, a, false, &why);
}

static void finish(struct program *p)
{
	struct mount *m = &p->mount;

	atomic_store(&m->stopping, true);
	pool_free(m->slow);
	pool_free(m->control);
	readtimes_flush(m);
	locks_stop(m);
	/* A signal may end the mount while files are open: what was written is told as if they had been closed. */
	file_settle_all(m);
	array_each(m, flush_array);
	handle_close_all(m);
	locks_end(m);
	inval_stop(m->inval);
	idle_stop(m->idle);
	idle_free(m, m->idle);
	free_nodes(m);
	cluster_free(m->cluster);
	head_state_free(m->head);
	inval_free(m->inval);
	locks_free(m);
	readtimes_free(m->readtimes);
	errors_free(m->errors);
	map_fini(&m->nodes);
	map_fini(&m->arrays);
	pthread_mutex_destroy(&m->table_lock);
}

static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
}

/* Whoever is root mounts for all users of the machine, as they expect of a file system. */
static void add_default_options(struct program *p)
{
	if (geteuid() == 0 && !strstr(p->fuse_options, "allow_"))
		take_option(p, "allow_other");
}

int main(int argc, char **argv)
{
	static struct program p = { .daemonize = true, .ready_fd = -1 };
	struct reason why = { "" };
	int code, err;

	p.mount.options.timeout_ms = TIMEOUT_DEFAULT_S * 1000;
	code = parse_arguments(&p, argc, argv);
	if (code)
		return code;
	add_default_options(&p);
	raise_limits();
	if (p.daemonize)
		go_to_background(&p);
	log_program("slabfs");
	log_to(log_fd_sink, (void *)(intptr_t)STDERR_FILENO, p.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	err = prepare(&p, &why);
	if (!err)
		err = ops_mount(&p.mount, p.fuse_options, &why);
	if (err) {
		log_error("%s: %s", p.mount.options.source, why.text[0] ? why.text : strerror(-err));
		_exit(1);
	}
	err = ops_serve(&p.mount, mounted, &p);
	log_info("unmounting %s", p.mountpoint);
	finish(&p);
	ops_unmount(&p.mount);
	return err ? 1 : 0;
}
