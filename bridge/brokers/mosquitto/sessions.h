/* Which username is connected under which client id, and what that session subscribes to. */
#ifndef EDGE_OTA_SESSIONS_H
#define EDGE_OTA_SESSIONS_H

#include <stdbool.h>

#define NAME_MAX_LENGTH 64
#define CLIENT_ID_MAX_LENGTH 256
#define NAME_BUCKETS 16384

struct session {
	struct session *next_of_id, *next_of_username;
	/* The list of sessions that the bridge must still be told of. */
	struct session *untold_next, *untold_previous;
	/* The broker's pointer to the client; NULL for a stored session that is not connected. */
	const void *client;
	char username[NAME_MAX_LENGTH + 1];
	/* The device number, as confirmed by the bridge, for topics of the later family; empty if not known. */
	char number[NAME_MAX_LENGTH + 1];
	bool is_bridge;
	/* Its username was revoked; a later tick ends the connection. */
	bool is_ended;
	/* It is in the list above. */
	bool is_untold;
	/* It subscribes to its own topic, and to that of its number. */
	bool has_own, has_number;
	/* The bridge was told of the connection, and of each of these subscriptions. */
	bool is_told, is_own_told, is_number_told;
	char client_id[];
};

/* The bucket of a name in a table of NAME_BUCKETS, which a device cannot foresee. */
unsigned name_bucket(const char *name);
void sessions_init(void);
void sessions_free(void);

/* Makes the session of a connection that was let in; it replaces a stored one of this client id. NULL: no memory. */
struct session *session_open(const void *client, const char *client_id, const char *username, bool is_bridge);
/* The session of this very connection; NULL: none. */
struct session *session_of(const void *client, const char *client_id);
/* A session that another username holds under this client id, preferably a live one; NULL: none. */
struct session *session_of_another(const char *client_id, const char *username, bool is_bridge);
/* The live or stored session of this username under this client id; NULL: none. */
struct session *session_named(const char *client_id, const char *username);
/* The connection has ended. If the broker keeps its session (`is_kept`), the client id stays with the username. */
void session_close(struct session *session, bool is_kept);
void session_forget(struct session *session);

/* Marks all connections of a username as ended, and forgets its stored sessions. */
void sessions_end(const char *username);
/* Marks the oldest other connection of its username as ended if that has more than `most`. */
void sessions_end_oldest(const struct session *newest, unsigned most);
/* A session that is marked as ended but still connected; NULL: none. */
struct session *sessions_next_ended(void);

/* Adds the session to the list of those that the bridge must be told of. */
void session_touch(struct session *session);
/* The first session of that list; NULL: none. */
struct session *sessions_next_untold(void);
/* Removes the session from that list. */
void session_told(struct session *session);
/* Adds all live sessions to that list, with their subscriptions, for a bridge that knows none. */
void sessions_tell_all(void);

#endif
