/* Finding what a command talks to: a mount's .slabfs/, a store's daemon, or the head of the store's cluster. */
#include "ctl.h"

#include "superblock.h"

#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>

#define CTL_TIMEOUT_MS 10000

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strncmp(path, dir, len) && (path[len] == '/' || path[len] == '\0');
}

int ctl_find_mount(struct ctl *c)
{
	static char found[PATH_MAX];
	char here[PATH_MAX] = "";
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent *m;
	size_t n = 0;
	bool inside = false;

	if (!mounts)
		return ctl_bad_usage("/proc/self/mounts: %s; give --mount or --store", strerror(errno));
	if (!getcwd(here, sizeof(here)))
		here[0] = '\0';
	while (!inside && (m = getmntent(mounts))) {
		if (strcmp(m->mnt_type, "fuse.slabfs"))
			continue;
		n++;
		inside = is_below(here, m->mnt_dir);
		snprintf(found, sizeof(found), "%s", m->mnt_dir);
	}
	endmntent(mounts);
	if (!inside && n != 1)
		return ctl_bad_usage(n ? "%zu slabfs mounts; give --mount or --store"
				       : "no slabfs is mounted (%zu found); give --mount or --store",
				     n);
	c->mount = found;
	return CTL_OK;
}

/* These files are made when they are opened, so their size is not known before. */
static int print_file(const char *path, struct reason *why)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[65536];
	ssize_t n;

	if (fd < 0)
		return reason_set(why, errno, "%.250s: %s", path,
				  errno == ENOENT ? "this is no slabfs mount, or one that does not tell this"
						  : strerror(errno));
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	return n < 0 ? reason_set(why, errno, "%.250s: %s", path, strerror(errno)) : 0;
}

int ctl_print_mount_file(const struct ctl *c, const char *name)
{
	char path[PATH_MAX];
	struct reason why;

	snprintf(path, sizeof(path), "%s/.slabfs/%s", c->mount, name);
	return print_file(path, &why) ? ctl_fail(&why) : CTL_OK;
}

static int connect_to(const struct ctl *c, const char *address, bool head, struct client **ret, struct reason *why)
{
	struct client_config config = { .hello.role = le32_of(WIRE_ROLE_CTL),
					.name = "slabctl",
					.n_connections = 1,
					.timeout_ms = CTL_TIMEOUT_MS };
	uint8_t key[CLUSTER_KEY_BYTES];
	struct superblock sb;
	char path[PATH_MAX];
	int err = superblock_read(c->store, &sb, why);

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/cluster.key", c->store);
	err = cluster_key_read(path, key, why);
	if (err)
		return err;
	snprintf(path, sizeof(path), "unix:%s/" STORE_SOCKET, c->store);
	config.address = address ? address : head && !sb.is_head ? sb.head : path;
	config.key = key;
	config.hello.cluster = sb.cluster;
	err = uuid_new(&config.hello.session);
	if (!err)
		err = client_new(&config, ret);
	return err ? reason_set(why, -err, "%s", strerror(-err)) : 0;
}

int ctl_connect(const struct ctl *c, bool head, struct client **ret, struct reason *why)
{
	return connect_to(c, NULL, head, ret, why);
}

int ctl_connect_to(const struct ctl *c, const char *address, struct client **ret, struct reason *why)
{
	return connect_to(c, address, false, ret, why);
}

int ctl_find_store(struct ctl *c)
{
	static char source[PATH_MAX];
	FILE *mounts;
	struct mntent *m;
	int code = c->store || c->mount ? CTL_OK : ctl_find_mount(c);

	if (code || c->store)
		return code;
	mounts = setmntent("/proc/self/mounts", "r");
	while (mounts && (m = getmntent(mounts)))
		if (!strcmp(m->mnt_type, "fuse.slabfs") && !strcmp(m->mnt_dir, c->mount))
			snprintf(source, sizeof(source), "%s", m->mnt_fsname);
	if (mounts)
		endmntent(mounts);
	if (source[0] != '/')
		return ctl_bad_usage("%s was not made from a store on this machine; give --store", c->mount);
	c->store = source;
	return CTL_OK;
}

static int take_paths(struct call *call, size_t n, char **ret_paths, uint32_t *ret_states)
{
	struct cursor at = { call->reply_payload, call->reply_bytes };

	for (size_t i = 0; i < n; i++) {
		const struct wire_object_path *one = cursor_take(&at, sizeof(*one));
		const char *text = one ? cursor_take(&at, le32_get(one->path_bytes)) : NULL;
		if (!text)
			return -EPROTO;
		if (ret_paths)
			ret_paths[i] = le32_get(one->path_bytes) ? strndup(text, le32_get(one->path_bytes)) : NULL;
		if (ret_states)
			ret_states[i] = le32_get(one->state);
	}
	return 0;
}

int ctl_object_paths(const struct ctl *c, const uint64_t *objects, size_t n, char **ret_paths, uint32_t *ret_states,
		     struct reason *why)
{
	struct wire_object_paths body = { .flags = le32_of(ret_paths ? 0 : WIRE_PATHS_STATES) };
	size_t step = ret_paths ? WIRE_OBJECTS_MAX : WIRE_STATES_MAX;
	AUTO_FREE struct le64 *wanted = calloc(step, sizeof(*wanted));
	struct client *client;
	int err = wanted ? ctl_connect(c, true, &client, why) : -ENOMEM;

	if (err)
		return err;
	for (size_t done = 0, some; !err && done < n; done += some) {
		some = MIN(n - done, step);
		for (size_t i = 0; i < some; i++)
			wanted[i] = le64_of(objects[done + i]);
		struct call call = { .type = WIRE_OBJECT_PATHS,
				     .body = &body,
				     .body_bytes = sizeof(body),
				     .payload = { wanted },
				     .payload_bytes = { some * sizeof(*wanted) },
				     .timeout_ms = CTL_SCAN_TIMEOUT_MS,
				     .alloc = true };
		err = client_call(client, &call);
		if (!err)
			err = take_paths(&call, some, ret_paths ? ret_paths + done : NULL,
					 ret_states ? ret_states + done : NULL);
		free(call.reply_payload);
		if (err)
			reason_set(why, -err, "the head does not tell the names: %.200s",
				   call.why.text[0] ? call.why.text : strerror(-err));
	}
	client_free(client);
	return err;
}

int ctl_nodes_of_store(const struct ctl *c, struct wire_node **ret, size_t *ret_n, struct reason *why)
{
	struct call call = { .type = WIRE_NODES, .alloc = true };
	struct client *client;
	int err = ctl_connect(c, true, &client, why);

	if (err)
		return err;
	err = client_call(client, &call);
	client_free(client);
	if (err)
		return reason_set(why, -err, "%.60s: the head does not answer: %.200s", c->store,
				  call.why.text[0] ? call.why.text : strerror(-err));
	*ret = call.reply_payload;
	*ret_n = call.reply_bytes / sizeof(**ret);
	return 0;
}
