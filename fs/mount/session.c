/* session.c - the FUSE session: mounts, tells the kernel what we can do, runs the loop, and notifies it of changes. */
#include "inval.h"
#include "log.h"
#include "ops.h"
#include "ops_fuse.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#define MAX_THREADS 64
#define READAHEAD_KB 2048

static struct fuse_session *the_session;
static void (*the_ready)(void *arg); /* called once the kernel has answered the mount */
static void *the_ready_arg;

void ops_init(void *userdata, struct fuse_conn_info *conn)
{
	static const unsigned wanted[] = { FUSE_CAP_ATOMIC_O_TRUNC,   FUSE_CAP_SPLICE_WRITE,    FUSE_CAP_SPLICE_MOVE,
					   FUSE_CAP_ASYNC_READ,       FUSE_CAP_PARALLEL_DIROPS, FUSE_CAP_READDIRPLUS,
					   FUSE_CAP_READDIRPLUS_AUTO, FUSE_CAP_POSIX_ACL,       FUSE_CAP_DONT_MASK,
					   FUSE_CAP_POSIX_LOCKS,      FUSE_CAP_FLOCK_LOCKS };

	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		if (conn->capable & wanted[i])
			conn->want |= wanted[i];
	conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ);
	struct mount *m = userdata;
	/* Each read(2) then asks for the attributes first, and drops pages of another mtime or size. */
	if (m->options.strict)
		conn->want |= conn->capable & FUSE_CAP_AUTO_INVAL_DATA;
	conn->max_write = IO_BYTES;
	conn->max_readahead = READAHEAD_KB << 10;
	conn->max_background = MAX_THREADS;
	conn->congestion_threshold = MAX_THREADS * 3 / 4;
	conn->time_gran = 1;
	m->through = m->options.passthrough && ops_through_init(conn);
	if (m->options.passthrough && !m->through)
		log_warn(
			"-o passthrough: the kernel (6.9 or later), libfuse (3.17) or the privilege for it is missing; "
			"going on without");
	if (the_ready)
		the_ready(the_ready_arg);
}

static void kernel_inval_node(void *arg, struct node *n, bool data)
{
	fuse_lowlevel_notify_inval_inode(the_session, ops_id(arg, n), data ? 0 : -1, 0);
}

static void kernel_inval_entry(void *arg, struct node *dir, const char *name)
{
	fuse_lowlevel_notify_inval_entry(the_session, ops_id(arg, dir), name, strlen(name));
}

/* The kernel reads ahead 128 KiB of a FUSE file unless it is told more, which takes root. */
static void raise_readahead(const char *mountpoint)
{
	char path[128];
	struct stat st;

	if (stat(mountpoint, &st))
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d", READAHEAD_KB) < 0)
		log_debug("%s: %s; reads ahead stay short", path, strerror(errno));
}

static void *readahead_main(void *arg)
{
	raise_readahead(arg);
	return NULL;
}

int ops_mount(struct mount *m, const char *fuse_options, struct reason *why)
{
	char options[1024];
	char *argv[] = { (char[]){ "slabfs" }, (char[]){ "-o" }, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);

	snprintf(options, sizeof(options), "default_permissions,fsname=%s,subtype=slabfs%s%s", m->options.source,
		 *fuse_options ? "," : "", fuse_options);
	the_session = fuse_session_new(&args, &ops_table, sizeof(ops_table), m);
	fuse_opt_free_args(&args);
	if (!the_session)
		return reason_set(why, EINVAL, "FUSE refuses the options '%s'", options);
	if (fuse_set_signal_handlers(the_session) || fuse_session_mount(the_session, m->options.mountpoint)) {
		fuse_session_destroy(the_session);
		the_session = NULL;
		return reason_set(why, EIO,
				  "cannot mount on %s (is /dev/fuse there, and the directory empty and yours?)",
				  m->options.mountpoint);
	}
	return inval_start(m->inval, &(struct inval_kernel){ kernel_inval_node, kernel_inval_entry, m });
}

int ops_serve(struct mount *m, void (*ready)(void *arg), void *arg)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	pthread_t readahead;
	int err;

	if (!config)
		return -ENOMEM;
	the_ready = ready;
	the_ready_arg = arg;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
	fuse_loop_cfg_set_idle_threads(config, MAX_THREADS);
	/* stat() of our own tree waits for the loop below. */
	bool helper = !pthread_create(&readahead, NULL, readahead_main, (void *)(uintptr_t)m->options.mountpoint);
	err = fuse_session_loop_mt(the_session, config);
	fuse_loop_cfg_destroy(config);
	/* The unmount closes the descriptor that its threads write to.  After a signal they may wait for the very unmount. */
	if (err <= 0)
		inval_stop(m->inval);
	fuse_session_unmount(the_session);
	if (helper)
		pthread_join(readahead, NULL);
	return err < 0 ? err : 0; /* a positive value is the signal that ended the loop */
}

void ops_unmount(struct mount *m)
{
	(void)m;
	fuse_remove_signal_handlers(the_session);
	fuse_session_unmount(the_session);
	fuse_session_destroy(the_session);
	the_session = NULL;
}

const char *ops_fuse_version(void)
{
	return fuse_pkgversion();
}
