#include "ctl.h"

#include "json.h"

#include <stdio.h>

/* Objects within objects get one line a leaf: "store bytes_free". */
static int print_pair(void *arg, const char *key, const struct json *value)
{
	const char *prefix = arg;
	const char *string;
	char name[128];

	snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? " " : "", key);
	if (json_is_object(value))
		return json_each(value, print_pair, name);
	AUTO_FREE char *text = json_text(value, false);
	if (json_is_string(value) && json_string(value, &string) == 0)
		printf("%-20s %s\n", name, string);
	else
		printf("%-20s %s\n", name, text ? text : "?");
	return 0;
}

static int print_status(const struct ctl *c, const char *text, size_t len, struct reason *why)
{
	char none[] = "";
	struct json *root;
	int err;

	if (c->json) {
		printf("%.*s\n", (int)len, text);
		return 0;
	}
	err = json_parse(text, len, &root, why);
	if (err)
		return err;
	err = json_each(root, print_pair, none);
	json_free(root);
	return err ? reason_set(why, EPROTO, "the daemon's status is not a JSON object") : 0;
}

static int store_status(const struct ctl *c)
{
	struct call call = { .type = WIRE_STATUS, .alloc = true };
	struct client *client;
	struct reason why;
	int err = ctl_connect(c, false, &client, &why);

	if (err)
		return ctl_fail(&why);
	err = client_call(client, &call);
	client_free(client);
	if (err)
		reason_set(&why, -err, "%.100s: its slabfsd does not answer: %.180s", c->store,
			   call.why.text[0] ? call.why.text : strerror(-err));
	else
		err = print_status(c, call.reply_payload, call.reply_bytes, &why);
	free(call.reply_payload);
	return err ? ctl_fail(&why) : CTL_OK;
}

int ctl_status(struct ctl *c, int argc, char **argv)
{
	int code = ctl_parse_plain(c, argc, argv);

	if (code < 0)
		code = c->store || c->mount ? CTL_OK : ctl_find_mount(c);
	if (code)
		return code;
	return c->store ? store_status(c) : ctl_print_mount_file(c, c->json ? "status.json" : "status");
}
