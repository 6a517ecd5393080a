#include "superblock.h"
#include "io.h"
#include "json.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SUPERBLOCK_NAME "superblock.json"
#define SUPERBLOCK_MAX 65536

static int need_u64(const struct json *root, const char *key, uint64_t max, uint64_t *ret, struct reason *why)
{
	const struct json *j = json_get(root, key);

	if (!j || json_u64(j, ret) < 0 || *ret > max)
		return reason_set(why, EINVAL, "superblock.json: %s: missing, or not a whole number in range", key);
	return 0;
}

static int need_string(const struct json *root, const char *key, const char **ret, struct reason *why)
{
	const struct json *j = json_get(root, key);

	if (!j || json_string(j, ret) < 0)
		return reason_set(why, EINVAL, "superblock.json: %s: missing, or not a string", key);
	return 0;
}

static int need_uuid(const struct json *root, const char *key, struct uuid *ret, struct reason *why)
{
	const char *text;
	int err = need_string(root, key, &text, why);

	if (!err && uuid_parse(text, ret) < 0)
		err = reason_set(why, EINVAL, "superblock.json: %s: '%.40s' is not a uuid", key, text);
	return err;
}

static int need_address(const struct json *root, const char *key, char ret[300], struct reason *why)
{
	const char *text;
	char host[256];
	uint16_t port;
	int err = need_string(root, key, &text, why);

	if (err)
		return err;
	if (strlen(text) >= 300 || address_split(text, SLAB_DEFAULT_PORT, host, &port) < 0)
		return reason_set(why, EINVAL, "superblock.json: %s: '%.60s' is not HOST:PORT", key, text);
	snprintf(ret, 300, "%s", text);
	return 0;
}

static int check_versions(const struct json *root, struct reason *why)
{
	uint64_t format, incompat;
	int err = need_u64(root, "format", UINT32_MAX, &format, why);

	if (!err && format != SUPERBLOCK_FORMAT)
		err = reason_set(why, EPROTONOSUPPORT, "superblock.json: format %llu; this program knows format %d",
				 (unsigned long long)format, SUPERBLOCK_FORMAT);
	if (!err)
		err = need_u64(root, "incompat", UINT64_MAX, &incompat, why);
	if (!err && (incompat & ~(uint64_t)SUPERBLOCK_INCOMPAT) != 0)
		err = reason_set(why, EPROTONOSUPPORT, "superblock.json: incompat bits 0x%llx are not known here",
				 (unsigned long long)(incompat & ~(uint64_t)SUPERBLOCK_INCOMPAT));
	return err;
}

static int decode(const struct json *root, struct superblock *ret, struct reason *why)
{
	struct superblock sb = { 0 };
	uint64_t id;
	int err = check_versions(root, why);

	if (!err)
		err = need_uuid(root, "cluster", &sb.cluster, why);
	if (!err)
		err = need_uuid(root, "node", &sb.node, why);
	if (!err)
		err = need_u64(root, "node_id", SLAB_NODES_MAX, &id, why);
	if (!err && id == 0)
		err = reason_set(why, EINVAL, "superblock.json: node_id: 0 is not a node");
	if (!err)
		err = need_address(root, "listen", sb.listen, why);
	if (!err)
		err = need_address(root, "head", sb.head, why);
	if (err)
		return err;
	sb.node_id = (uint32_t)id;
	sb.is_head = id == 1;
	*ret = sb;
	return 0;
}

int superblock_read(const char *store, struct superblock *ret, struct reason *why)
{
	AUTO_CLOSE int dir = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	struct json *root;
	size_t len;
	int err;

	if (dir < 0)
		return reason_set(why, errno, "%s: %s", store, strerror(errno));
	err = io_read_file(dir, SUPERBLOCK_NAME, SUPERBLOCK_MAX, &text, &len);
	if (err == -ENOENT)
		return reason_set(why, ENOENT, "%s: no superblock.json: not a slabfs store (mkfs.slabfs makes one)",
				  store);
	if (err)
		return reason_set(why, -err, "%s/superblock.json: %s", store, strerror(-err));
	err = json_parse(text, len, &root, why);
	if (err)
		return err;
	err = json_is_object(root) ? decode(root, ret, why)
				   : reason_set(why, EINVAL, "superblock.json: not a JSON object");
	json_free(root);
	return err;
}

int superblock_write(int storefd, const struct superblock *sb)
{
	struct json *root = json_new_object();
	char cluster[37], node[37];
	int err = root ? 0 : -ENOMEM;

	uuid_text(&sb->cluster, cluster);
	uuid_text(&sb->node, node);
	if (!err)
		err = json_set(root, "format", json_new_u64(SUPERBLOCK_FORMAT));
	if (!err)
		err = json_set(root, "compat", json_new_u64(SUPERBLOCK_COMPAT));
	if (!err)
		err = json_set(root, "incompat", json_new_u64(SUPERBLOCK_INCOMPAT));
	if (!err)
		err = json_set(root, "cluster", json_new_string(cluster));
	if (!err)
		err = json_set(root, "node", json_new_string(node));
	if (!err)
		err = json_set(root, "node_id", json_new_u64(sb->node_id));
	if (!err)
		err = json_set(root, "listen", json_new_string(sb->listen));
	if (!err)
		err = json_set(root, "head", json_new_string(sb->head));
	AUTO_FREE char *text = err ? NULL : json_text(root, true);
	json_free(root);
	if (err || !text)
		return err ? err : -ENOMEM;
	return io_publish(storefd, SUPERBLOCK_NAME, text, strlen(text), 0644);
}

int cluster_key_read(const char *path, uint8_t ret[CLUSTER_KEY_BYTES], struct reason *why)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t key[CLUSTER_KEY_BYTES + 1];
	struct stat st;
	size_t len;
	int err;

	if (fd < 0 || fstat(fd, &st) < 0)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	if (st.st_mode & 077)
		return reason_set(why, EACCES, "%s: others can read the cluster key (mode %03o); chmod 600 it", path,
				  st.st_mode & 0777);
	err = io_pread(fd, key, sizeof(key), 0, &len);
	if (err)
		return reason_set(why, -err, "%s: %s", path, strerror(-err));
	if (len != CLUSTER_KEY_BYTES)
		return reason_set(why, EINVAL, "%s: not a cluster key: %zu bytes instead of %d", path, len,
				  CLUSTER_KEY_BYTES);
	memcpy(ret, key, CLUSTER_KEY_BYTES);
	return 0;
}
