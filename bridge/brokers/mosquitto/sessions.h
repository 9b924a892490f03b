/* Who is connected under which client id, and what that connection may hear. */
#ifndef EDGE_OTA_SESSIONS_H
#define EDGE_OTA_SESSIONS_H

#include <stdbool.h>

#define NAME_MAX_LENGTH 64
#define CLIENT_ID_MAX_LENGTH 256

struct session {
	struct session *next_of_id, *next_of_username;
	/* Those that the bridge has still to be told of. */
	struct session *untold_next, *untold_previous;
	/* The broker's own pointer; NULL: a stored session, nobody is connected. */
	const void *client;
	char username[NAME_MAX_LENGTH + 1];
	/* Of the later topic family: the device number that the bridge said is this device's; empty: not known. */
	char number[NAME_MAX_LENGTH + 1];
	bool is_bridge;
	/* Its username was revoked: it is ended at the next tick. */
	bool is_ended;
	bool is_untold;
	/* What it subscribes to: its own topic, and that of its number. */
	bool has_own, has_number;
	/* What the bridge knows: the connection, and its subscriptions. */
	bool is_told, is_own_told, is_number_told;
	char client_id[];
};

void sessions_init(void);
void sessions_free(void);

/* A connection that was let in; NULL: no memory. Takes over a stored session of the same client id. */
struct session *session_open(const void *client, const char *client_id, const char *username, bool is_bridge);
/* The live session of exactly this connection. */
struct session *session_of(const void *client, const char *client_id);
/* A live or stored session that another username holds under this client id; live ones first. */
struct session *session_of_another(const char *client_id, const char *username, bool is_bridge);
/* Live or stored, of this username. */
struct session *session_named(const char *client_id, const char *username);
/* The connection is over; where the broker keeps the session, its client id stays this username's. */
void session_close(struct session *session, bool is_kept);
void session_forget(struct session *session);

/* Marks all connections of a username as ended and forgets what is stored of it. */
void sessions_end(const char *username);
/* One that is ended but still connected; NULL: none. */
struct session *sessions_next_ended(void);

/* The bridge has something to hear of this one. */
void session_touch(struct session *session);
/* The first that the bridge has to hear of; NULL: none. */
struct session *sessions_next_untold(void);
/* The bridge knows all of this one. */
void session_told(struct session *session);
/* A bridge that knows nothing is to hear of all who are connected, and of their subscriptions. */
void sessions_tell_all(void);

#endif
