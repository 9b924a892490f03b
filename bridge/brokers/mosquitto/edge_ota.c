/*
 * A Mosquitto plugin for devices that speak the protocol as it is (src/protocol/README.md#identity and #topics):
 *
 * - It asks the bridge, over a Unix socket, who may connect and who may subscribe to the topic of a device number.
 *   All else is decided here. A question that is not answered in time counts as refused.
 * - It rewrites a device's flat uplink topic to one that ends in its username. The bridge can trust that, since devices
 *   may neither publish nor subscribe there. Wills are never rewritten, so they reach no subscriber.
 * - It tells the bridge who is connected, and ends a username's connections if the bridge says so.
 * - It closes the connection of a device that takes more than its share, and refuses it for a while.
 *
 * A username is an access token, so no log line may contain one.
 */
#define _DEFAULT_SOURCE
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "sessions.h"
#include "shares.h"

/* Values of mosquitto.h, which Debian has in the client library's package only. */
enum { SUCCESS = 0, NO_MEMORY = 1, INVALID = 3, CONNECTION_LOST = 7, DENIED_AUTH = 11, DENIED_ACL = 12 };
enum { LOG_ERROR = 8 };
/* All other symbols are hidden, so that none clashes with the broker's. */
#define EXPORTED __attribute__((visibility("default")))

#define PASSWORD_MAX_LENGTH 512
#define ADDRESS_MAX_LENGTH 64
#define BRIDGE_CLIENT_ID "edge-ota-bridge-"
#define ALL_TOPICS "ota/"
#define OWN_TOPIC "ota/device/inform/"
#define NUMBER_TOPIC "ota/devices/inform/"
#define REQUEST_TOPIC "ota/device/request"
/* At most this many connections are ended per tick, so that other clients' messages do not wait for long. */
#define KICKS_PER_TICK 256

/* The topics that devices may publish on, and what each becomes before the username (read by bridge/identity.ts). */
static const struct {
	const char *flat, *rewritten;
} uplinks[] = {
	{ "ota/device/inform", "ota/device/inform/up/" },
	{ "ota/device/infrom", "ota/device/infrom/" },
	{ "ota/device/progress", "ota/device/progress/" },
	{ REQUEST_TOPIC, "ota/device/request/" },
	{ "ota/devices/inform", "ota/devices/inform/up/" },
	{ "ota/devices/progress", "ota/devices/progress/" },
};

static char bridge_username[NAME_MAX_LENGTH + 1];
static char bridge_password[PASSWORD_MAX_LENGTH + 1];
static const char *bridge_password_file;
static unsigned connections_per_device;
/* After on_reload, until the next tick, the broker authenticates all sessions again, live and stored. */
static bool is_reloading;

static bool starts_with(const char *text, const char *start)
{
	return !strncmp(text, start, strlen(start));
}

static bool is_name(const char *text)
{
	size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
	return length >= 1 && length <= NAME_MAX_LENGTH && !text[length];
}

/* Takes the same time for wrong passwords as for the right one. */
static bool is_bridge_password(const char *password)
{
	char given[sizeof bridge_password] = "";
	unsigned char difference = 0;
	if (!password || strlen(password) >= sizeof given)
		return false;
	memcpy(given, password, strlen(password));
	for (size_t at = 0; at < sizeof given; at++)
		difference |= (unsigned char)(given[at] ^ bridge_password[at]);
	return difference == 0;
}

static const char *rewritten(const char *topic)
{
	for (size_t at = 0; at < sizeof uplinks / sizeof *uplinks; at++)
		if (!strcmp(topic, uplinks[at].flat))
			return uplinks[at].rewritten;
	return NULL;
}

/* ---- Reports to the bridge ---- */

static void tell_bridge(void)
{
	struct session *session;
	while ((session = sessions_next_untold())) {
		const char *username = session->username;
		if (!session->is_told && !link_send("C %s", username))
			return;
		session->is_told = true;
		if (session->has_own && !session->is_own_told && !link_send("U %s " OWN_TOPIC "%s", username, username))
			return;
		session->is_own_told = true;
		if (session->has_number && !session->is_number_told &&
		    !link_send("U %s " NUMBER_TOPIC "%s", username, session->number))
			return;
		session->is_number_told = true;
		session_told(session);
	}
}

/* `what` as read by bridge/brokers/plugin-line.ts. */
static void tell_over_share(const char *username, char what)
{
	if (share_is_to_be_told(username))
		link_send("O %s %c", username, what);
}

static void on_link_opened(void)
{
	link_send("R");
	sessions_tell_all();
}

static int on_tick(int event, void *data, void *userdata)
{
	(void)event, (void)data, (void)userdata;
	is_reloading = false;
	link_tick();
	tell_bridge();
	shares_tick();
	struct session *session;
	for (int kicks = 0; kicks < KICKS_PER_TICK && (session = sessions_next_ended()); kicks++) {
		/* The broker calls on_disconnect, which forgets the session. If it did not, the broker has no such client. */
		mosquitto_kick_client_by_clientid(session->client_id, false);
		if (sessions_next_ended() == session)
			session_forget(session);
	}
	return SUCCESS;
}

/* ---- Who may connect ---- */

static bool may_connect(const char *username, const char *password, const char *address)
{
	char hex[2 * PASSWORD_MAX_LENGTH + 1] = "-", question[sizeof hex + 1 + ADDRESS_MAX_LENGTH];
	size_t length = password ? strlen(password) : 0;
	if (length > PASSWORD_MAX_LENGTH)
		return false;
	for (size_t at = 0; at < length; at++)
		snprintf(hex + 2 * at, 3, "%02x", (unsigned char)password[at]);
	/* The bridge slows down whoever guesses passwords, by address. */
	bool has_address = address && *address && strlen(address) < ADDRESS_MAX_LENGTH;
	snprintf(question, sizeof question, "%s%s%s", hex, has_address ? " " : "", has_address ? address : "");
	return link_ask('A', username, question);
}

/* A device that is let in counts as one more connection; beyond its share of new ones it is refused. */
static bool has_share(const char *username)
{
	if (share_take(username, CONNECTS))
		return true;
	tell_over_share(username, 'C');
	return false;
}

/*
 * True if another username holds this client id. Client ids are unique in the broker: without this check, one device
 * could end another's connection or take over its stored session. A stored session is given up if the device of its
 * username is gone, since a device with a new token comes back under its old client id.
 */
static bool is_of_another(const char *client_id, const char *username, bool is_bridge)
{
	struct session *other = session_of_another(client_id, username, is_bridge);
	if (!other || other->client)
		return other != NULL;
	char owner[NAME_MAX_LENGTH + 1];
	strcpy(owner, other->username);
	if (!link_ask('G', owner, "-"))
		return true;
	/* Looked up again, since the bridge may have revoked it while it was asked. */
	other = session_named(client_id, owner);
	if (other && !other->client)
		session_forget(other);
	return false;
}

static void close_session(const void *client, const char *client_id, bool is_kept)
{
	struct session *session = session_of(client, client_id);
	if (!session)
		return;
	if (session->is_told)
		link_tell("D %s", session->username);
	session_close(session, is_kept);
}

static int on_auth(int event, void *data, void *userdata)
{
	(void)event, (void)userdata;
	const struct mosquitto_evt_basic_auth *auth = data;
	const char *username = auth->username, *client_id = mosquitto_client_id(auth->client);
	/* Sessions were authenticated when they connected, and the bridge has revoked sessions ended by itself. */
	if (is_reloading)
		return SUCCESS;
	if (!username || !is_name(username) || !client_id || strlen(client_id) > CLIENT_ID_MAX_LENGTH)
		return DENIED_AUTH;
	bool is_bridge = !strcmp(username, bridge_username);
	if (!is_bridge && starts_with(client_id, BRIDGE_CLIENT_ID))
		return DENIED_AUTH;

	if (!is_bridge && share_is_cut_off(username)) {
		tell_over_share(username, 'C');
		return DENIED_AUTH;
	}
	const char *address = mosquitto_client_address(auth->client);
	if (is_bridge ? !is_bridge_password(auth->password) : !may_connect(username, auth->password, address))
		return DENIED_AUTH;
	if (!is_bridge && !has_share(username))
		return DENIED_AUTH;
	if (is_of_another(client_id, username, is_bridge))
		return DENIED_AUTH;
	close_session(auth->client, client_id, false);
	const struct session *session = session_open(auth->client, client_id, username, is_bridge);
	if (!session)
		return NO_MEMORY;
	/* The newest connection works; older ones may have died unseen. */
	if (!is_bridge)
		sessions_end_oldest(session, connections_per_device);
	return SUCCESS;
}

static int on_disconnect(int event, void *data, void *userdata)
{
	(void)event, (void)userdata;
	const struct mosquitto_evt_disconnect *end = data;
	close_session(end->client, mosquitto_client_id(end->client), !mosquitto_client_clean_session(end->client));
	return SUCCESS;
}

/* ---- Who may publish and subscribe what ---- */

static bool may_write(const struct session *session, const char *topic)
{
	return session->is_bridge ? starts_with(topic, ALL_TOPICS) : rewritten(topic) != NULL;
}

/* Wildcards, $share and $SYS match no topic of a device, so they are refused here too. */
static bool may_subscribe(struct session *session, const char *filter)
{
	if (session->is_bridge)
		return starts_with(filter, ALL_TOPICS);
	if (starts_with(filter, OWN_TOPIC)) {
		if (strcmp(filter + strlen(OWN_TOPIC), session->username))
			return false;
		session->has_own = true;
		session->is_own_told = false;
	} else {
		const char *number = filter + strlen(NUMBER_TOPIC);
		if (!starts_with(filter, NUMBER_TOPIC) || !is_name(number) || !link_ask('S', session->username, filter))
			return false;
		strcpy(session->number, number);
		session->has_number = true;
		session->is_number_told = false;
	}
	session_touch(session);
	return true;
}

static void forget_subscription(struct session *session, const char *filter)
{
	if (starts_with(filter, OWN_TOPIC) && !strcmp(filter + strlen(OWN_TOPIC), session->username))
		session->has_own = false;
	if (starts_with(filter, NUMBER_TOPIC) && !strcmp(filter + strlen(NUMBER_TOPIC), session->number))
		session->has_number = false;
}

/* Called also for stored sessions, even those from before the broker's start, which sessions.c does not know. */
static bool may_read(const struct mosquitto *client, const char *topic)
{
	const char *username = mosquitto_client_username(client);
	if (!username || !is_name(username))
		return false;
	if (!strcmp(username, bridge_username))
		return starts_with(topic, ALL_TOPICS);
	if (starts_with(topic, OWN_TOPIC))
		return !strcmp(topic + strlen(OWN_TOPIC), username);
	const char *number = topic + strlen(NUMBER_TOPIC);
	if (!starts_with(topic, NUMBER_TOPIC) || !is_name(number))
		return false;
	struct session *session = session_named(mosquitto_client_id(client), username);
	if (session && !strcmp(session->number, number))
		return true;
	if (!link_ask('S', username, topic))
		return false;
	if (session)
		strcpy(session->number, number);
	return true;
}

static int on_acl(int event, void *data, void *userdata)
{
	(void)event, (void)userdata;
	const struct mosquitto_evt_acl_check *acl = data;
	if (acl->access == MOSQ_ACL_READ)
		return may_read(acl->client, acl->topic) ? SUCCESS : DENIED_ACL;
	struct session *session = session_of(acl->client, mosquitto_client_id(acl->client));
	if (!session || session->is_ended)
		return DENIED_ACL;
	switch (acl->access) {
	case MOSQ_ACL_WRITE:
		return may_write(session, acl->topic) ? SUCCESS : DENIED_ACL;
	case MOSQ_ACL_SUBSCRIBE:
		if (!session->is_bridge && !share_take(session->username, MESSAGES)) {
			tell_over_share(session->username, 'M');
			return DENIED_ACL;
		}
		return may_subscribe(session, acl->topic) ? SUCCESS : DENIED_ACL;
	case MOSQ_ACL_UNSUBSCRIBE:
		forget_subscription(session, acl->topic);
		return SUCCESS;
	default:
		return DENIED_ACL;
	}
}

static int on_message(int event, void *data, void *userdata)
{
	(void)event, (void)userdata;
	struct mosquitto_evt_message *message = data;
	const struct session *session = session_of(message->client, mosquitto_client_id(message->client));
	if (!session)
		return DENIED_ACL;
	if (session->is_bridge)
		return SUCCESS;
	const char *start = rewritten(message->topic);
	if (!start)
		return DENIED_ACL;
	enum share share = strcmp(message->topic, REQUEST_TOPIC) ? MESSAGES : REQUESTS;
	if (!share_take(session->username, share)) {
		/* Any other refusal would be acknowledged to MQTT 3.1.1 as if it had been taken. So the connection ends. */
		share_cut_off(session->username, share);
		tell_over_share(session->username, share == REQUESTS ? 'Q' : 'M');
		return CONNECTION_LOST;
	}
	char *topic = mosquitto_malloc(strlen(start) + strlen(session->username) + 1);
	if (!topic)
		return NO_MEMORY;
	strcpy(topic, start);
	strcat(topic, session->username);
	mosquitto_free(message->topic);
	message->topic = topic;
	message->retain = false;
	return SUCCESS;
}

/* ---- Start and end ---- */

/* The password is the whole first line of the file. */
static bool read_bridge_password(void)
{
	char line[PASSWORD_MAX_LENGTH + 2] = "";
	FILE *file = fopen(bridge_password_file, "r");
	if (!file)
		return false;
	bool is_read = fgets(line, sizeof line, file) != NULL;
	fclose(file);
	size_t length = strcspn(line, "\r\n");
	if (!is_read || length == 0 || length > PASSWORD_MAX_LENGTH)
		return false;
	memset(bridge_password, 0, sizeof bridge_password);
	memcpy(bridge_password, line, length);
	return true;
}

static int on_reload(int event, void *data, void *userdata)
{
	(void)event, (void)data, (void)userdata;
	is_reloading = true;
	if (!read_bridge_password())
		mosquitto_log_printf(LOG_ERROR, "edge_ota: the bridge's password file cannot be read; the old password stays");
	return SUCCESS;
}

static const char *option(const struct mosquitto_opt *options, int count, const char *key)
{
	for (int at = 0; at < count; at++)
		if (!strcmp(options[at].key, key))
			return options[at].value;
	return "";
}

/* A whole number that is at least 1; `fallback` if the option is not given. 0: it is something else. */
static unsigned count_option(const struct mosquitto_opt *options, int count, const char *key, unsigned fallback)
{
	const char *text = option(options, count, key);
	if (!*text)
		return fallback;
	char *rest;
	unsigned long value = strtoul(text, &rest, 10);
	return *rest || *text == '-' || value > 1000000000 ? 0 : (unsigned)value;
}

/* By default what no honest device meets; the same as the bridge's (bridge/shares.ts). */
static bool read_shares(const struct mosquitto_opt *options, int count)
{
	unsigned messages = count_option(options, count, "device_messages_per_minute", 120);
	unsigned messages_at_once = count_option(options, count, "device_messages_at_once", 1000);
	unsigned requests = count_option(options, count, "device_requests_per_minute", 30);
	unsigned requests_at_once = count_option(options, count, "device_requests_at_once", 60);
	unsigned connects = count_option(options, count, "device_connects_per_minute", 60);
	unsigned connects_at_once = count_option(options, count, "device_connects_at_once", 200);
	connections_per_device = count_option(options, count, "device_connections", 8);
	shares_allow(MESSAGES, messages, messages_at_once);
	shares_allow(REQUESTS, requests, requests_at_once);
	shares_allow(CONNECTS, connects, connects_at_once);
	return messages && messages_at_once && requests && requests_at_once && connects && connects_at_once &&
	       connections_per_device;
}

EXPORTED int mosquitto_plugin_version(int count, const int *versions)
{
	for (int at = 0; at < count; at++)
		if (versions[at] == MOSQ_PLUGIN_VERSION)
			return MOSQ_PLUGIN_VERSION;
	return -1;
}

EXPORTED int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	const char *path = option(options, count, "socket"), *username = option(options, count, "bridge_username");
	bridge_password_file = strdup(option(options, count, "bridge_password_file"));
	if (!is_name(username)) {
		mosquitto_log_printf(LOG_ERROR, "edge_ota: plugin_opt_bridge_username is 1 to 64 letters, digits, _ or -");
		return INVALID;
	}
	strcpy(bridge_username, username);
	if (!bridge_password_file || !read_bridge_password()) {
		mosquitto_log_printf(LOG_ERROR, "edge_ota: plugin_opt_bridge_password_file has no password in its first line");
		return INVALID;
	}
	if (!*path || !link_init(path, (struct link_events){ on_link_opened, sessions_end })) {
		mosquitto_log_printf(LOG_ERROR, "edge_ota: plugin_opt_socket is the path of the bridge's PLUGIN_SOCKET");
		return INVALID;
	}
	if (!read_shares(options, count)) {
		mosquitto_log_printf(LOG_ERROR, "edge_ota: each plugin_opt_device_… is a whole number from 1 on");
		return INVALID;
	}
	sessions_init();

	const struct {
		int event;
		MOSQ_FUNC_generic_callback callback;
	} wanted[] = {
		{ MOSQ_EVT_BASIC_AUTH, on_auth }, { MOSQ_EVT_ACL_CHECK, on_acl }, { MOSQ_EVT_MESSAGE, on_message },
		{ MOSQ_EVT_DISCONNECT, on_disconnect }, { MOSQ_EVT_TICK, on_tick }, { MOSQ_EVT_RELOAD, on_reload },
	};
	for (size_t at = 0; at < sizeof wanted / sizeof *wanted; at++) {
		int result = mosquitto_callback_register(id, wanted[at].event, wanted[at].callback, NULL, NULL);
		if (result != SUCCESS)
			return result;
	}
	return SUCCESS;
}

EXPORTED int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata, (void)options, (void)count;
	link_free();
	sessions_free();
	shares_free();
	free((char *)bridge_password_file);
	return SUCCESS;
}
