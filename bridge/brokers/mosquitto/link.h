/* The connection to the bridge: a Unix socket with one line per fact or question. Only link_ask waits, at most 50 ms. */
#ifndef EDGE_OTA_LINK_H
#define EDGE_OTA_LINK_H

#include <stdbool.h>

struct link_events {
	/* A new connection: the bridge knows no session yet. */
	void (*opened)(void);
	/* The bridge revoked this username: its sessions must end. */
	void (*revoked)(const char *username);
};

/* Returns false if the path is too long for a socket. */
bool link_init(const char *path, struct link_events events);
void link_free(void);

/* Buffers one line, given without its end. False: there is no bridge or no room, and the line is dropped. */
bool link_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For a fact that must not be lost: if there is no room, it ends the connection, and the next one tells everything. */
void link_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/*
 * Asks "<kind> <number> <first> <second>" and waits for the answer. True only for a yes that comes in time. The
 * arguments must contain no line ends, and the first one no spaces.
 */
bool link_ask(char kind, const char *first, const char *second);
/* Connects, reads and writes as far as possible without waiting. */
void link_tick(void);

#endif
