/* Arrays as the metadata sees them: what a zarr.json does to its directory, DEFINE, RESIZE, CHUNKDIR, and what becomes of objects. */
#include "meta_rig.h"

#define ARRAY (uint32_t)(WIRE_ATTR_ARRAY | WIRE_ATTR_SIDECAR)
#define GROUP "{\"zarr_format\": 3, \"node_type\": \"group\", \"attributes\": {}}"

static char *doc_of(uint64_t rows, uint64_t chunk)
{
	uint64_t shape[2] = { rows, 512 }, chunks[2] = { chunk, 512 };
	char *doc = zarr_doc_new(DTYPE_FLOAT64, false, 2, shape, chunks);

	CHECK(doc);
	return doc;
}

/* The array's object; 0: none. */
static uint64_t object_of(struct rig *r, uint64_t dir)
{
	uint64_t object;

	if (rig_open(r, dir))
		return 0;
	object = le64_get(r->op.reply.open.layout.object);
	CHECK(rig_close(r, dir) == 0);
	return object;
}

static bool doc_is(struct rig *r, uint64_t dir, const char *text)
{
	const struct wire_layout *l = &r->op.reply.open.layout;
	bool same;

	if (rig_open(r, dir))
		return false;
	same = le32_get(l->doc_bytes) == strlen(text) &&
	       !memcmp(r->op.reply_payload + r->op.reply_payload_bytes - strlen(text), text, strlen(text));
	return CHECK(rig_close(r, dir) == 0) && same;
}

static void test_written(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "temps"), f = rig_file(r, d, "zarr.json"), object;
	AUTO_FREE char *doc = doc_of(100, 10), *longer = doc_of(200, 10), *other = doc_of(100, 20);
	struct wire_setattr cut = { .ino = le64_of(f), .valid = le32_of(WIRE_SET_SIZE) };
	struct wire_ino ino = { le64_of(f) };

	CHECK(rig_flags(r, d) == 0 && rig_flags(r, f) == WIRE_ATTR_INLINE);
	CHECK(rig_write(r, f, "{\"zarr_format\": 2}") < 0 && !strncmp(r->why.text, "/temps/zarr.json: ", 18));
	CHECK(rig_flags(r, d) == 0 && rig_write(r, f, GROUP) == 0 && rig_flags(r, d) == 0);
	CHECK(rig_write(r, f, doc) == 0 && le64_get(rig_attr(r)->size) == strlen(doc) && rig_flags(r, d) == ARRAY);
	object = object_of(r, d);
	CHECK(object && doc_is(r, d, doc));
	CHECK(rig_open(r, d) == 0 && le64_get(r->op.reply.open.layout.partition_bytes) == 10 * 512 * 8 &&
	      rig_close(r, d) == 0);

	CHECK(rig_write(r, f, longer) == 0 && object_of(r, d) == object && doc_is(r, d, longer));
	CHECK(rig_write(r, f, "{") == -EINVAL && doc_is(r, d, longer));
	CHECK(rig_call(r, WIRE_INLINE_READ, &ino, NULL, 0) == 0 && r->op.reply_payload_bytes == strlen(longer));
	CHECK(rig_call(r, WIRE_SETATTR, &cut, NULL, 0) == 0 && rig_flags(r, d) == ARRAY && object_of(r, d) == object);
	cut.size = le64_of(5);
	CHECK(rig_call(r, WIRE_SETATTR, &cut, NULL, 0) == -EINVAL);

	CHECK(rig_write(r, f, other) == 0 && object_of(r, d) != object && rig_orphans(r, object) == 1);
	object = object_of(r, d);
	CHECK(rig_write(r, f, GROUP) == 0 && rig_flags(r, d) == 0 && rig_orphans(r, object) == 1 &&
	      rig_open(r, d) == -EISDIR);
}

static void test_renamed(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "ren"), e = rig_dir(r, META_ROOT, "ren2"), object, f;
	uint64_t tmp = rig_file(r, d, "zarr.json.tmp"), bad = rig_file(r, d, "zarr.json.bad");
	AUTO_FREE char *doc = doc_of(100, 10), *longer = doc_of(200, 10);
	struct wire_commit commit;

	CHECK(rig_write(r, tmp, doc) == 0 && rig_write(r, bad, "nonsense") == 0 && rig_flags(r, d) == 0);
	CHECK(rig_rename(r, d, "zarr.json.tmp", d, "zarr.json", 0) == 0 && rig_flags(r, d) == ARRAY);
	object = object_of(r, d);
	CHECK(rig_rename(r, d, "zarr.json.bad", d, "zarr.json", 0) == -EINVAL &&
	      rig_lookup(r, d, "zarr.json") == (int64_t)tmp);
	CHECK(rig_rename(r, d, "zarr.json", d, "zarr.json.bad", 2) == -EINVAL && rig_flags(r, d) == ARRAY);
	CHECK(rig_lookup(r, d, "zarr.json.bad") == (int64_t)bad && rig_unlink(r, WIRE_UNLINK, d, "zarr.json.bad") == 0);

	tmp = rig_file(r, d, "zarr.json.2");
	CHECK(rig_write(r, tmp, longer) == 0 && rig_link(r, tmp, d, "zarr.json") == -EEXIST);
	CHECK(rig_rename(r, d, "zarr.json.2", d, "zarr.json", 0) == 0 && object_of(r, d) == object &&
	      doc_is(r, d, longer));
	CHECK(rig_link(r, tmp, e, "zarr.json") == 0 && rig_flags(r, e) == ARRAY && object_of(r, e) != object);
	CHECK(rig_write(r, tmp, doc) == 0 && doc_is(r, d, doc) && doc_is(r, e, doc));
	CHECK(rig_unlink(r, WIRE_UNLINK, e, "zarr.json") == 0 && rig_flags(r, e) == 0 && doc_is(r, d, doc));
	CHECK(rig_rename(r, d, "zarr.json", e, "zarr.json", 0) == 0 && rig_flags(r, d) == 0 &&
	      rig_flags(r, e) == ARRAY);
	CHECK(rig_orphans(r, object) == 1);

	f = rig_file(r, d, "plain");
	commit = (struct wire_commit){ .ino = le64_of(f), .size = le64_of(3) };
	CHECK(rig_call(r, WIRE_COMMIT, &commit, NULL, 0) == 0 &&
	      rig_rename(r, d, "plain", d, "zarr.json", 0) == -EXDEV);
	CHECK(rig_write(r, f, doc) == 0 && rig_flags(r, f) == WIRE_ATTR_INLINE);
	CHECK(rig_rename(r, d, "plain", d, "zarr.json", 0) == 0 && rig_flags(r, d) == ARRAY);
}

static int chunkdir(struct rig *r, uint64_t d, uint32_t make)
{
	struct wire_chunkdir body = { .dir = le64_of(d), .make = le32_of(make) };

	return rig_call(r, WIRE_CHUNKDIR, &body, NULL, 0);
}

static void test_chunkdir(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "chunky"), f = rig_file(r, d, "zarr.json"), object;
	AUTO_FREE char *doc = doc_of(100, 10);

	CHECK(chunkdir(r, d, 1) == -EINVAL && rig_write(r, f, doc) == 0 && chunkdir(r, d, 0) == -ENOENT);
	object = object_of(r, d);
	CHECK(chunkdir(r, d, 1) == 0 && chunkdir(r, d, 1) == -EEXIST &&
	      rig_flags(r, d) == (ARRAY | WIRE_ATTR_CHUNKDIR));
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "zarr.json") == 0);
	CHECK(rig_flags(r, d) == (WIRE_ATTR_ARRAY | WIRE_ATTR_CHUNKDIR) && object_of(r, d) == object);
	CHECK(rig_unlink(r, WIRE_RMDIR, META_ROOT, "chunky") == -ENOTEMPTY);
	CHECK(chunkdir(r, d, 0) == 0 && rig_flags(r, d) == 0 && rig_orphans(r, object) == 1);
	CHECK(rig_unlink(r, WIRE_RMDIR, META_ROOT, "chunky") == 0);
}

static int define(struct rig *r, uint64_t d, const char *npy, const char *doc)
{
	struct wire_define body = { .dir = le64_of(d),
				    .npy_bytes = le32_of((uint32_t)strlen(npy)),
				    .doc_bytes = le32_of((uint32_t)strlen(doc)),
				    .uid = le32_of(5) };
	AUTO_FREE char *payload = malloc(strlen(npy) + strlen(doc) + 1);

	sprintf(payload, "%s%s", npy, doc);
	return rig_call(r, WIRE_DEFINE, &body, payload, strlen(payload));
}

static void test_define(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "def"), object;
	AUTO_FREE char *doc = doc_of(100, 10), *longer = doc_of(200, 10), *other = doc_of(100, 20);
	AUTO_FREE char *huge = doc_of(UINT64_C(1) << 40, 16384);

	CHECK(define(r, d, "HDR", GROUP) == -EINVAL && define(r, d, "HDR", doc) == 0);
	CHECK(rig_flags(r, d) == (ARRAY | WIRE_ATTR_CHUNKDIR) && rig_lookup(r, d, "zarr.json") > 0);
	CHECK(le32_get(rig_attr(r)->uid) == 5 && le64_get(rig_attr(r)->size) == strlen(doc));
	object = object_of(r, d);
	CHECK(rig_open(r, d) == 0 && le32_get(r->op.reply.open.layout.npy_bytes) == 3 &&
	      !memcmp(r->op.reply_payload + 4, "HDR", 3));
	CHECK(rig_close(r, d) == 0);
	CHECK(define(r, d, "HDR2", longer) == 0 && object_of(r, d) != object && doc_is(r, d, longer));
	CHECK(rig_orphans(r, object) == 1);
	object = object_of(r, d);
	CHECK(define(r, d, "", other) == 0 && object_of(r, d) != object && rig_orphans(r, object) == 1);
	CHECK(define(r, d, "", huge) == -ENOSPC && strstr(r->why.text, "node 1") && doc_is(r, d, other));
	rig_file(r, d, "notes");
	CHECK(define(r, d, "", doc) == -ENOTEMPTY);
}

static int resize(struct rig *r, uint64_t d, uint64_t rows, uint32_t grow_only)
{
	struct wire_resize body = { .dir = le64_of(d), .rows = le64_of(rows), .grow_only = le32_of(grow_only) };

	return rig_call(r, WIRE_RESIZE, &body, NULL, 0);
}

static uint64_t rows_of(struct rig *r, uint64_t d)
{
	const struct wire_layout *l = &r->op.reply.open.layout;
	enum zarr_node node;
	struct zarr z = { 0 };

	CHECK(rig_open(r, d) == 0);
	CHECK(zarr_parse((const char *)r->op.reply_payload + r->op.reply_payload_bytes - le32_get(l->doc_bytes),
			 le32_get(l->doc_bytes), &node, &z, NULL) == 0);
	CHECK(rig_close(r, d) == 0);
	return z.grid.shape[0];
}

static void test_resize(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "size"), object, generation;
	AUTO_FREE char *doc = doc_of(100, 10);

	CHECK(resize(r, d, 5, 0) == -EINVAL && define(r, d, "HDR", doc) == 0);
	object = object_of(r, d);
	CHECK(resize(r, d, 150, 1) == 0 && rows_of(r, d) == 150);
	generation = le64_get(r->op.reply.open.attr.generation);
	CHECK(resize(r, d, 120, 1) == 0 && rows_of(r, d) == 150);
	CHECK(resize(r, d, 20, 0) == 0 && rows_of(r, d) == 20 && object_of(r, d) == object);
	CHECK(resize(r, d, UINT64_C(1) << 42, 1) == -ENOSPC && rows_of(r, d) == 20);
	CHECK(rig_getattr(r, d) == 0 && le64_get(rig_attr(r)->generation) > generation);
}

static void test_pushes(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "told"), f = rig_file(r, d, "zarr.json");
	AUTO_FREE char *doc = doc_of(100, 10);

	r->session = 3;
	CHECK(rig_getattr(r, d) == 0);
	r->session = 1;
	rig_seen.n = 0;
	CHECK(rig_write(r, f, doc) == 0);
	CHECK(rig_pushed(3, d, NULL) == (WIRE_INVAL_ATTR | WIRE_INVAL_DATA | WIRE_INVAL_LAYOUT));
	rig_seen.n = 0;
	CHECK(rig_write(r, f, "{") == -EINVAL && rig_seen.n == 0);
	meta_session_gone(r->d.meta, 3);
}

/* A plain c/ that was there before the zarr.json, and the mount that made both. */
static void test_plain_chunkdir(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "copied"), c = rig_dir(r, d, "c");
	uint64_t full = rig_dir(r, META_ROOT, "full"), kept = rig_dir(r, full, "c");
	AUTO_FREE char *doc = doc_of(100, 10);

	rig_dir(r, kept, "0");
	CHECK(rig_lookup(r, d, "c") == (int64_t)c);
	rig_seen.n = 0;
	CHECK(rig_write(r, rig_file(r, d, "zarr.json"), doc) == 0);
	CHECK(rig_pushed(1, d, "c") == WIRE_INVAL_ENTRY);
	CHECK(rig_lookup(r, d, "c") == -ENOENT && rig_getattr(r, c) == -ESTALE);
	CHECK(rig_getattr(r, d) == 0 && le32_get(rig_attr(r)->flags) == (ARRAY | WIRE_ATTR_CHUNKDIR));
	CHECK(le32_get(rig_attr(r)->nlink) == 2);
	CHECK(rig_write(r, rig_file(r, full, "zarr.json"), doc) == 0 && rig_lookup(r, full, "c") == (int64_t)kept);
	CHECK(rig_getattr(r, full) == 0 && !(le32_get(rig_attr(r)->flags) & WIRE_ATTR_CHUNKDIR));
}

static void test_removed_while_open(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "bye"), f = rig_file(r, d, "zarr.json"), object;
	AUTO_FREE char *doc = doc_of(100, 10);

	CHECK(rig_write(r, f, doc) == 0);
	object = object_of(r, d);
	CHECK(rig_open(r, d) == 0 && rig_unlink(r, WIRE_UNLINK, d, "zarr.json") == 0);
	CHECK(rig_orphans(r, object) == 1 && rig_unlink(r, WIRE_RMDIR, META_ROOT, "bye") == 0);
	CHECK(rig_getattr(r, d) == 0 && rig_close(r, d) == 0 && rig_getattr(r, d) == -ESTALE);
}

static void test_orphan_rows(struct rig *r)
{
	static struct orphan found[64], again[64];
	size_t n, n_again;

	CHECK(meta_orphans(r->d.meta, 0, 64, found, &n) == 0 && n >= 3 && found[0].n_nodes == 1);
	found[0].n_nodes = 0;
	found[1].nodes[0] = le32_of(9);
	CHECK(meta_orphans_update(r->d.meta, found, 2) == 0);
	CHECK(meta_orphans(r->d.meta, 0, 64, again, &n_again) == 0 && n_again == n - 1);
	CHECK(again[0].object == found[1].object && le32_get(again[0].nodes[0]) == 9);
	CHECK(meta_orphans(r->d.meta, again[0].object, 64, again, &n_again) == 0 && n_again == n - 2);
}

/* A session that cannot be told of a change must lose its caches, however much else of it still works. */
static void test_deaf(struct rig *r)
{
	uint64_t f = rig_file(r, META_ROOT, "heard"), g = rig_file(r, META_ROOT, "unasked");
	struct wire_setattr body = { .ino = le64_of(f), .valid = le32_of(WIRE_SET_MODE), .mode = le32_of(0600) };

	r->session = 4;
	CHECK(rig_getattr(r, f) == 0 && rig_lookup(r, g, "x") == -ENOTDIR && rig_lookup(r, 999999, "x") == -ESTALE);
	CHECK(!inval_held(r->d.meta->inval, g, 4) && !inval_held(r->d.meta->inval, 999999, 4));
	r->session = 1;
	rig_seen.deaf = 4;
	rig_seen.cut = 0;
	CHECK(rig_call(r, WIRE_SETATTR, &body, NULL, 0) == 0 && rig_seen.cut == 4);
	CHECK(!inval_held(r->d.meta->inval, f, 4));
	rig_seen.deaf = 0;
}

static void test_node_rows(struct rig *r)
{
	struct uuid a, b;
	uint32_t id_a, id_b, id;
	uint32_t ids[SLAB_NODES_MAX];
	struct reason why;

	uuid_new(&a);
	uuid_new(&b);
	CHECK(meta_node_add(r->d.meta, &a, "h:1", &id_a, &why) == 0 && id_a == 2);
	CHECK(meta_node_add(r->d.meta, &b, "h:2", &id_b, &why) == 0 && id_b == 3);
	CHECK(meta_node_add(r->d.meta, &a, "h:3", &id, &why) == 0 && id == 2);
	CHECK(meta_node_address(r->d.meta, 3, &a, "h:4", &why) == -EEXIST &&
	      meta_node_address(r->d.meta, 9, &a, "h:4", &why) == -ENOENT);
	CHECK(meta_node_address(r->d.meta, 3, &b, "h:4", &why) == 0);
	rig_down(r);
	CHECK(rig_up(r));
	AUTO_FREE struct wire_node *nodes = NULL;
	size_t n;
	CHECK(nodes_snapshot(r->d.nodes, &nodes, &n) == 0 && n == 3);
	CHECK(le32_get(nodes[0].state) == WIRE_NODE_UP && le32_get(nodes[1].state) == WIRE_NODE_DOWN);
	CHECK(!strcmp(nodes[1].address, "h:3") && !strcmp(nodes[2].address, "h:4") && uuid_equal(&nodes[2].node, &b));
	CHECK(nodes_place(r->d.nodes, 2, ids) == 1 && ids[0] == 1);
}

int main(void)
{
	static void (*const tests[])(
		struct rig *) = { test_written,        test_renamed, test_chunkdir,           test_define,
				  test_resize,         test_pushes,  test_removed_while_open, test_orphan_rows,
				  test_plain_chunkdir, test_deaf,    test_node_rows };
	struct rig r;

	if (!rig_new(&r))
		return unit_result();
	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		tests[i](&r);
	rig_free(&r);
	return unit_result();
}
