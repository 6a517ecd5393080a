/* slabfsd - serves one store. */
#include "daemon.h"
#include "io.h"
#include "log.h"
#include "mapcache.h"
#include "meta.h"
#include "nodes.h"
#include "notify.h"
#include "scrub.h"
#include "server.h"
#include "store.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define WORKERS 32 /* slow requests wait for disks and peers more than they compute */
#define REDUCERS 8
#define WORKERS_QUEUE 1024
#define LOG_NAME "slabfsd.log"
#define REGISTER_MS 30000
#define ASK_HEAD_MS 1000 /* for the head to refuse an older copy of the store, before anything of it is served */
#define GRACE_S 30
#define GRACE_MAX_S 3600

enum { EXIT_FAIL = 1, EXIT_USAGE = 2 };

struct options {
	bool daemonize, debug, accept_copy, rebuild;
	uint64_t grace_s;
	const char *log, *store;
};

static const char usage[] =
	"usage: slabfsd [--daemonize] [--debug] [--grace SECONDS] [--accept-copy] [--log FILE] [--rebuild] STORE\n"
	"Serves the slabfs store STORE (made by mkfs.slabfs) until SIGTERM or SIGINT.\n"
	"  --daemonize   return once it is ready, and go on in the background\n"
	"  --debug       log more\n"
	"  --grace SECONDS\n"
	"                how long after its start the head spares what was removed while it was open (30)\n"
	"  --accept-copy serve the store although it is an older copy of itself: what was written since is lost\n"
	"  --log FILE    log there (default: stderr; with --daemonize STORE/" LOG_NAME ")\n"
	"  --rebuild     the head has lost its names: start without any, for slabctl fsck --rebuild\n"
	"  --help, --version\n";

static int bad_usage(const char *what)
{
	fprintf(stderr, "slabfsd: %s\n%s", what, usage);
	return EXIT_USAGE;
}

/* -1: go on; else the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "daemonize", no_argument, NULL, 'd' },
		{ "debug", no_argument, NULL, 'v' },
		{ "log", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "grace", required_argument, NULL, 'g' },
		{ "accept-copy", no_argument, NULL, 'a' },
		{ "rebuild", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			o->daemonize = true;
			break;
		case 'v':
			o->debug = true;
			break;
		case 'l':
			o->log = optarg;
			break;
		case 'r':
			o->rebuild = true;
			break;
		case 'g':
			if (parse_u64(optarg, GRACE_MAX_S, &o->grace_s) < 0)
				return bad_usage("--grace takes a number of seconds up to 3600");
			break;
		case 'a':
			o->accept_copy = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'V':
			puts("slabfsd " SLAB_VERSION);
			return 0;
		default:
			return bad_usage("unknown option, or one without its value");
		}
	}
	if (argc - optind != 1)
		return bad_usage("one STORE is needed");
	o->store = argv[optind];
	return -1;
}

/* ---- setting up ---- */

static int open_store_dir(struct daemon *d, struct reason *why)
{
	d->store_fd = open(d->store_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->store_fd < 0)
		return reason_set(why, errno, "%s: %s", d->store_path, strerror(errno));
	return 0;
}

/* The lock lives as long as the process: its descriptor is never closed. */
static int lock_store(struct daemon *d, struct reason *why)
{
	int fd = openat(d->store_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return reason_set(why, errno, "%s/lock: %s", d->store_path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? reason_set(why, EBUSY, "%s: another slabfsd serves this store", d->store_path)
			       : reason_set(why, errno, "%s/lock: %s", d->store_path, strerror(errno));
	return 0;
}

static uint64_t mix(uint64_t h, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
	return h;
}

/* Machine, boot, file system and directory: while they are the same, what a daemon wrote before it died is still there. */
static uint64_t storage_id(int store_fd)
{
	AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char boot[64];
	ssize_t len = fd < 0 ? -1 : read(fd, boot, sizeof(boot));
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	struct statvfs fs = { 0 };
	struct stat st = { 0 };

	if (len > 0)
		h = mix(h, boot, (size_t)len);
	if (fstat(store_fd, &st) == 0)
		h = mix(mix(h, &st.st_dev, sizeof(st.st_dev)), &st.st_ino, sizeof(st.st_ino));
	if (fstatvfs(store_fd, &fs) == 0)
		h = mix(h, &fs.f_fsid, sizeof(fs.f_fsid));
	return h;
}

static int read_identity(struct daemon *d, struct reason *why)
{
	char path[PATH_MAX];
	int err = superblock_read(d->store_path, &d->sb, why);

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/cluster.key", d->store_path);
	err = cluster_key_read(path, d->key, why);
	d->storage = storage_id(d->store_fd);
	return err ? err : uuid_new(&d->incarnation);
}

static uint64_t memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

static int make_pools(struct daemon *d)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int err = pool_new(WORKERS, WORKERS_QUEUE, &d->workers);

	if (!err && d->sb.is_head)
		err = pool_new(WORKERS, WORKERS_QUEUE, &d->namers);
	if (!err)
		err = pool_new(REDUCERS, WORKERS_QUEUE, &d->reducers);
	if (!err)
		err = pool_new(cores > 0 ? (size_t)cores : 1, WORKERS_QUEUE, &d->cores);
	return err ? err : mapcache_new(memory_bytes() / 2, &d->mapcache);
}

/* A port that was left to the system is kept, so that a restart is found at the same address. */
static int keep_port(struct daemon *d, struct reason *why)
{
	char host[256];
	uint16_t port;
	int err;

	if (address_split(d->sb.listen, SLAB_DEFAULT_PORT, host, &port) < 0 || port != 0)
		return 0;
	if (d->sb.is_head)
		snprintf(d->sb.head, sizeof(d->sb.head), "%s", d->address);
	snprintf(d->sb.listen, sizeof(d->sb.listen), "%s", d->address);
	err = superblock_write(d->store_fd, &d->sb);
	return err ? reason_set(why, -err, "superblock.json: %s", strerror(-err)) : 0;
}

/* mkfs.slabfs leaves a mark that the head has had no names yet: without it they must be there. */
static int open_names(struct daemon *d, bool rebuild, struct reason *why)
{
	int err;

	if (!d->sb.is_head)
		return rebuild ? reason_set(why, EINVAL, "--rebuild: node %u is not the head", d->sb.node_id) : 0;
	d->names = rebuild                                           ? NAMES_REBUILT
		   : faccessat(d->store_fd, STORE_NEW, F_OK, 0) == 0 ? NAMES_MAY_BE_MADE
								     : NAMES_MUST_BE_THERE;
	err = meta_open(d, &d->meta, why);
	if (!err && unlinkat(d->store_fd, STORE_NEW, 0) == 0)
		io_fsync_dir(d->store_fd, ".");
	return err;
}

static int set_up(struct daemon *d, bool rebuild, struct reason *why)
{
	int err = open_store_dir(d, why);

	if (!err)
		err = lock_store(d, why);
	if (!err)
		err = read_identity(d, why);
	if (!err)
		err = make_pools(d);
	if (!err)
		err = store_open(d->store_fd, d->cores, &d->store, why);
	if (!err)
		err = open_names(d, rebuild, why);
	if (!err)
		err = server_new(d, &d->server, why);
	if (!err)
		err = keep_port(d, why);
	if (!err)
		err = nodes_new(d, &d->nodes, why);
	return err;
}

static void tear_down(struct daemon *d)
{
	server_free(d->server);
	nodes_free(d->nodes);
	pool_free(d->reducers);
	mapcache_free(d->mapcache);
	pool_free(d->namers);
	pool_free(d->workers);
	scrub_free(d->scrub);
	store_close(d->store);
	meta_close(d->meta);
	pool_free(d->cores);
	if (d->store_fd >= 0)
		close(d->store_fd);
}

/* ---- serving ---- */

static void announce(const struct daemon *d)
{
	printf("slabfsd: node %u ready on %s\n", d->sb.node_id, d->address);
	fflush(stdout);
	notify_ready();
}

/* Waits until the head knows this node (0), refuses it for good (-ESTALE) or a signal asks to stop (-EINTR). */
static int wait_registered(struct daemon *d, const sigset_t *signals, struct reason *why)
{
	uint64_t since = time_mono_ns();
	bool logged = false;

	for (;;) {
		struct timespec none = { 0, 0 };
		int err = nodes_wait_registered(d->nodes, 200, why);
		if (!err || err == -ESTALE)
			return err;
		if (sigtimedwait(signals, NULL, &none) > 0)
			return -EINTR;
		if (!logged && time_mono_ns() - since > REGISTER_MS * UINT64_C(1000000)) {
			log_warn("daemon: not registered with the head at %s after %d s (%s); goes on trying",
				 d->sb.head, REGISTER_MS / 1000, why->text);
			logged = true;
		}
	}
}

/* Until a signal asks to stop, or another node has taken this one's place at the head. */
static int wait_end(struct daemon *d, const sigset_t *signals, struct reason *why)
{
	struct timespec second = { 1, 0 };

	while (sigtimedwait(signals, NULL, &second) < 0)
		if (nodes_wait_registered(d->nodes, 0, why) == -ESTALE)
			return -ESTALE;
	return 0;
}

/* A store that the head would refuse serves nobody; one whose head is away does not wait for it. */
static int start(struct daemon *d, struct reason *why)
{
	int err = d->meta ? meta_start(d) : 0;

	if (!err)
		err = scrub_new(d, &d->scrub);
	if (!err)
		err = nodes_start(d->nodes);
	if (!err && nodes_wait_registered(d->nodes, ASK_HEAD_MS, why) == -ESTALE)
		return -ESTALE;
	if (!err)
		err = server_start(d->server);
	return err ? reason_set(why, -err, "cannot start: %s", strerror(-err)) : 0;
}

static int serve(struct daemon *d, const sigset_t *signals, struct reason *why)
{
	int err = start(d, why);

	if (!err)
		err = wait_registered(d, signals, why);
	if (!err) {
		announce(d);
		notify_parent(0);
		log_info("daemon: node %u ready on %s", d->sb.node_id, d->address);
		err = wait_end(d, signals, why);
	}
	if (err == -EINTR)
		err = 0;
	log_info("daemon: stopping");
	notify_stopping();
	server_stop(d->server);
	nodes_stop(d->nodes);
	if (d->meta)
		meta_stop(d);
	return err;
}

static void prepare_process(sigset_t *signals)
{
	struct rlimit files;

	mapping_init();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(signals);
	sigaddset(signals, SIGTERM);
	sigaddset(signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, signals, NULL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	umask(077);
}

static int choose_log(const struct options *o)
{
	char path[PATH_MAX];
	int fd = STDERR_FILENO;

	log_program("slabfsd");
	if (o->log || o->daemonize) {
		snprintf(path, sizeof(path), o->log ? "%s" : "%s/" LOG_NAME, o->log ? o->log : o->store);
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (fd < 0) {
			fprintf(stderr, "slabfsd: %s: %s\n", path, strerror(errno));
			return -1;
		}
	}
	log_to(log_fd_sink, (void *)(intptr_t)fd, o->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = { .grace_s = GRACE_S };
	struct daemon d = { .store_fd = -1, .started_ns = time_mono_ns() };
	struct reason why = { "" };
	sigset_t signals;
	static char store[PATH_MAX];
	int err, code = parse_options(argc, argv, &o);

	if (code >= 0)
		return code;
	if (!realpath(o.store, store)) {
		fprintf(stderr, "slabfsd: %s: %s\n", o.store, strerror(errno));
		return EXIT_FAIL;
	}
	o.store = d.store_path = store;
	d.accept_copy = o.accept_copy;
	d.grace_ns = o.grace_s * UINT64_C(1000000000);
	prepare_process(&signals);
	if (choose_log(&o) < 0)
		return EXIT_FAIL;
	if (o.daemonize && (code = notify_daemonize()) >= 0)
		return code;
	err = set_up(&d, o.rebuild, &why);
	if (!err)
		err = serve(&d, &signals, &why);
	if (err) {
		if (o.log || o.daemonize)
			fprintf(stderr, "slabfsd: %s\n", why.text[0] ? why.text : strerror(-err));
		log_error("daemon: %s", why.text[0] ? why.text : strerror(-err));
		notify_parent(EXIT_FAIL);
	}
	tear_down(&d);
	log_info("daemon: stopped");
	return err ? EXIT_FAIL : 0;
}
