/* The line to the bridge: a Unix socket, a line each way per fact, never waited for longer than one question may take. */
#ifndef EDGE_OTA_LINK_H
#define EDGE_OTA_LINK_H

#include <stdbool.h>

struct link_events {
	/* A connection to a bridge that knows nothing yet. */
	void (*opened)(void);
	/* The bridge wants the sessions of this username ended. */
	void (*revoked)(const char *username);
};

/* False: the path is too long for a socket. */
bool link_init(const char *path, struct link_events events);
void link_free(void);

/* One line without its end, into the buffer. False: no bridge or no room; then the line is not sent, not even later. */
bool link_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For a fact that must not be missing: a line that finds no room ends the connection, and the next one begins anew. */
void link_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/*
 * "<kind> <number> <arguments>", and the answer: true only where it is a yes and comes in time. Arguments have no
 * spaces or line ends but the one between them.
 */
bool link_ask(char kind, const char *first, const char *second);
/* Reads, writes and connects as far as that goes without waiting. */
void link_tick(void);

#endif
