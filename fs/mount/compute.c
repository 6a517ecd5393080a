/* compute.c - the views below compute/: each name is a question about the array, and opening it asks all nodes for their part of the
 * answer.  Looking a name up only reads the question. */
#include "array.h"
#include "errors.h"
#include "fan.h"
#include "node.h"
#include "npy.h"
#include "question.h"
#include "reduce.h"

#include <fcntl.h>
#include <stdio.h>

#define NPY_HEADER_ROOM 1024 /* of an answer without a shape */

static int view_of(struct mount *m, struct node *n, struct array_view **ret)
{
	struct array *a = node_array(n);

	return a ? array_view(m, a, ret) : -ENOENT;
}

static struct reduce_spec spec_of(const struct question *q, const struct zarr *z)
{
	return (struct reduce_spec){ .op = q->op,
				     .dtype = z->dtype,
				     .swap = z->big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__),
				     .params = q->params };
}

/* ---- compute/ ---- */

static int computedir_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	struct array_view *v;
	int err = view_of(m, n, &v);

	if (err)
		return err;
	node_view_stat(n, &v->attr, S_IFDIR, 0, 0, ret);
	ret->st_mode = S_IFDIR | 0555;
	array_view_unref(v);
	return 0;
}

static int computedir_lookup(struct mount *m, struct node *dir, const char *name, struct node **ret)
{
	char spelled[QUESTION_MAX + 8];
	struct reason why = { "" };
	struct question q;
	struct array_view *v;
	int err;

	if (name[0] == '.')
		return -ENOENT;
	err = view_of(m, dir, &v);
	if (err)
		return err;
	err = question_parse(name, v->zarr.dtype, &q, &why);
	array_view_unref(v);
	if (err)
		return errors_add(m, dir, -err, &why);
	snprintf(spelled, sizeof(spelled), "%s%s", q.canonical, q.format == QUESTION_NPY ? ".npy" : "");
	return node_of_view(m, NODE_RESULT, node_array(dir)->ino, node_array(dir), 0, spelled, ret);
}

static int computedir_readdir(struct mount *m, struct node *dir, struct handle *h, uint64_t cookie,
			      const struct emit *emit)
{
	char name[QUESTION_MAX + 8];
	const struct reduce_op *op;
	struct array_view *v;
	int err = view_of(m, dir, &v);

	(void)h;
	if (err)
		return err;
	for (; (op = reduce_op_at(cookie)); cookie++) {
		if (!reduce_op_defined(op, v->zarr.dtype))
			continue;
		snprintf(name, sizeof(name), "%s%s", reduce_op_name(op), reduce_op_is_json(op) ? ".json" : "");
		if (!emit->fn(emit->arg, name, view_ino(node_array(dir)->ino, NODE_RESULT, 0, name), S_IFREG | 0444,
			      NULL, cookie + 1))
			break;
	}
	array_view_unref(v);
	return 0;
}

const struct node_ops computedir_ops = {
	.name = "compute",
	.getattr = computedir_getattr,
	.lookup = computedir_lookup,
	.readdir = computedir_readdir,
};

/* ---- answers ---- */

static int npy_header(enum dtype dtype, uint8_t buf[NPY_HEADER_ROOM], size_t *ret_len)
{
	struct npy h = { .dtype = dtype, .big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ };

	return npy_format(&h, 0, buf, NPY_HEADER_ROOM, ret_len);
}

/* The length of a .npy is known before it is computed; that of a text is not, and it is read with direct_io. */
static uint64_t size_of(const struct question *q, const struct reduce_spec *spec)
{
	uint8_t header[NPY_HEADER_ROOM];
	enum dtype dtype;
	size_t len;

	if (q->format != QUESTION_NPY)
		return 0;
	dtype = reduce_result_dtype(spec);
	return npy_header(dtype, header, &len) ? 0 : len + dtype_bytes(dtype);
}

static int result_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	struct reduce_spec spec;
	struct question q;
	struct array_view *v;
	int err = view_of(m, n, &v);

	if (err)
		return err;
	err = question_parse(n->name, v->zarr.dtype, &q, NULL);
	if (!err) {
		spec = spec_of(&q, &v->zarr);
		node_view_stat(n, &v->attr, S_IFREG, 0, size_of(&q, &spec), ret);
		ret->st_mode = S_IFREG | 0444;
	}
	array_view_unref(v);
	return err;
}

static int answer_npy(const struct reduce_spec *spec, const struct reduce_state *s, struct handle *h,
		      struct reason *why)
{
	uint8_t header[NPY_HEADER_ROOM];
	union dtype_value value;
	enum dtype dtype;
	size_t len;
	int err = reduce_value(spec, s, &dtype, &value, why);

	if (!err)
		err = npy_header(dtype, header, &len);
	if (err)
		return err;
	h->buf = malloc(len + dtype_bytes(dtype));
	if (!h->buf)
		return -ENOMEM;
	memcpy(h->buf, header, len);
	memcpy(h->buf + len, &value, dtype_bytes(dtype));
	h->buf_bytes = len + dtype_bytes(dtype);
	return 0;
}

static int answer_text(const struct reduce_spec *spec, const struct reduce_state *s, struct handle *h,
		       struct reason *why)
{
	int err = reduce_text(spec, s, &h->buf, why);

	if (!err)
		h->buf_bytes = strlen(h->buf);
	return err;
}

/* ---- the asking ---- */

struct asking {
	struct mount *m;
	const struct array_view *v;
	const struct question *q;
	const struct reduce_spec *spec;
	struct wire_reduce bodies[SLAB_NODES_MAX];
	struct wire_reduce_reply replies[SLAB_NODES_MAX];
	struct fan_call calls[SLAB_NODES_MAX];
	size_t n;
};

/* One request a node covers all its partitions: those from its place in the layout on, in steps of the number of nodes. */
static int prepare(struct asking *a, struct reason *why)
{
	const struct layout *l = bytes_layout(a->v->bytes);
	size_t n = (size_t)MIN(l->n_nodes, a->v->zarr.grid.n_partitions), question_bytes = strlen(a->q->canonical);
	int err = 0;

	for (size_t i = 0; i < n && !err; i++) {
		a->bodies[i] =
			(struct wire_reduce){ .part = { .object = le64_of(l->object), .epoch = le32_of(l->epoch) },
					      .first = le64_of(i),
					      .stride = le64_of(l->n_nodes),
					      .question_bytes = le32_of((uint32_t)question_bytes),
					      .doc_bytes = le32_of((uint32_t)a->v->doc_bytes) };
		a->calls[i].retry = true;
		a->calls[i].call = (struct call){ .type = WIRE_REDUCE,
						  .body = &a->bodies[i],
						  .body_bytes = sizeof(a->bodies[i]),
						  .payload = { a->q->canonical, a->v->doc },
						  .payload_bytes = { question_bytes, a->v->doc_bytes },
						  .timeout_ms = FAN_NO_DEADLINE,
						  .reply_body = &a->replies[i],
						  .alloc = true };
		err = fan_to(a->m, l->nodes[i], &a->calls[i], why);
	}
	a->n = n;
	return err;
}

static int merge(const struct asking *a, struct reduce_state *into, struct reason *why)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct fan_call *c = &a->calls[i];
		struct reduce_state *part;
		struct reason cause = { "" };
		int err = reduce_decode(a->spec, c->call.reply_payload, c->call.reply_bytes, &part, &cause);
		if (err)
			return reason_set(why, err == -ENOMEM ? ENOMEM : EIO, "node %u: %.280s", c->node_id,
					  cause.text);
		reduce_merge(a->spec, into, part);
		reduce_state_free(part);
	}
	return 0;
}

/* All nodes or none: what one of them does not give is not left out of an answer. */
static int ask_all(struct asking *a, struct cancel *cancel, struct reduce_state *into, struct reason *why)
{
	size_t failed = 0;
	int err = prepare(a, why);

	if (err)
		return err;
	err = fan_run(a->m, a->calls, a->n, true, cancel, &failed);
	if (err)
		reason_set(why, -err, "%s", a->calls[failed].call.why.text);
	else
		err = merge(a, into, why);
	for (size_t i = 0; i < a->n; i++)
		free(a->calls[i].call.reply_payload);
	return err;
}

static int compute(struct mount *m, const struct array_view *v, const struct question *q, struct handle *h,
		   struct cancel *cancel, struct reason *why)
{
	struct reduce_spec spec = spec_of(q, &v->zarr);
	struct reduce_state *state;
	AUTO_FREE struct asking *a = calloc(1, sizeof(*a));
	int err = a ? reduce_state_new(&spec, &state) : -ENOMEM;

	if (err)
		return err;
	a->m = m;
	a->v = v;
	a->q = q;
	a->spec = &spec;
	atomic_fetch_add(&m->n_reductions, 1);
	err = ask_all(a, cancel, state, why);
	if (!err)
		err = q->format == QUESTION_NPY ? answer_npy(&spec, state, h, why) : answer_text(&spec, state, h, why);
	reduce_state_free(state);
	return err;
}

static int result_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel)
{
	struct reason why = { "" };
	struct question q;
	struct array_view *v;
	int err;

	if ((h->flags & O_ACCMODE) != O_RDONLY || (h->flags & O_TRUNC))
		return -EACCES;
	err = view_of(m, n, &v);
	if (err)
		return err;
	err = question_parse(n->name, v->zarr.dtype, &q, &why);
	if (!err)
		err = compute(m, v, &q, h, cancel, &why);
	array_view_unref(v);
	if (err)
		return err == -EINTR ? err : errors_add(m, n, -err, &why);
	h->direct_io = q.format != QUESTION_NPY;
	h->keep_cache = false;
	return 0;
}

static int result_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out)
{
	(void)m;
	out->len = offset < h->buf_bytes ? MIN(size, h->buf_bytes - (size_t)offset) : 0;
	if (out->len > 0)
		memcpy(out->buf, h->buf + offset, out->len);
	return 0;
}

const struct node_ops result_ops = {
	.name = "result",
	.slow_open = true,
	.getattr = result_getattr,
	.open = result_open,
	.read = result_read,
};
