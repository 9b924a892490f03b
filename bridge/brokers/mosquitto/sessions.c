#define _DEFAULT_SOURCE
#include "sessions.h"

#include <mosquitto_broker.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

/* Stored sessions kept per username. A device has one; more would only cost memory. */
#define STORED_PER_USERNAME 8

static struct session *by_id[NAME_BUCKETS], *by_username[NAME_BUCKETS];
static struct session *untold_first, *untold_last;
static unsigned ended;
static uint32_t seed;

void sessions_init(void)
{
	/* Devices choose their client ids, so they must not know which ids share a bucket. */
	if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
		seed = (uint32_t)(uintptr_t)&seed;
}

unsigned name_bucket(const char *text)
{
	uint32_t hash = 2166136261u ^ seed;
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 16777619u;
	return (hash ^ hash >> 16) % NAME_BUCKETS;
}

static void untold_remove(struct session *session)
{
	if (!session->is_untold)
		return;
	session->is_untold = false;
	*(session->untold_previous ? &session->untold_previous->untold_next : &untold_first) = session->untold_next;
	*(session->untold_next ? &session->untold_next->untold_previous : &untold_last) = session->untold_previous;
	session->untold_next = session->untold_previous = NULL;
}

void session_touch(struct session *session)
{
	if (session->is_untold || session->is_bridge)
		return;
	session->is_untold = true;
	session->untold_previous = untold_last;
	*(untold_last ? &untold_last->untold_next : &untold_first) = session;
	untold_last = session;
}

struct session *sessions_next_untold(void)
{
	return untold_first;
}

void session_told(struct session *session)
{
	untold_remove(session);
}

void sessions_tell_all(void)
{
	for (unsigned at = 0; at < NAME_BUCKETS; at++) {
		for (struct session *session = by_id[at]; session; session = session->next_of_id) {
			session->is_told = session->is_own_told = session->is_number_told = false;
			if (session->client)
				session_touch(session);
		}
	}
}

void session_forget(struct session *session)
{
	struct session **link = &by_id[name_bucket(session->client_id)];
	while (*link != session)
		link = &(*link)->next_of_id;
	*link = session->next_of_id;
	link = &by_username[name_bucket(session->username)];
	while (*link != session)
		link = &(*link)->next_of_username;
	*link = session->next_of_username;
	untold_remove(session);
	if (session->is_ended)
		ended--;
	mosquitto_free(session);
}

void sessions_free(void)
{
	for (unsigned at = 0; at < NAME_BUCKETS; at++)
		while (by_id[at])
			session_forget(by_id[at]);
}

struct session *session_of(const void *client, const char *client_id)
{
	if (!client_id)
		return NULL;
	for (struct session *session = by_id[name_bucket(client_id)]; session; session = session->next_of_id)
		if (session->client == client)
			return session;
	return NULL;
}

struct session *session_named(const char *client_id, const char *username)
{
	if (!client_id)
		return NULL;
	for (struct session *session = by_id[name_bucket(client_id)]; session; session = session->next_of_id)
		if (!strcmp(session->client_id, client_id) && !strcmp(session->username, username))
			return session;
	return NULL;
}

struct session *session_of_another(const char *client_id, const char *username, bool is_bridge)
{
	struct session *stored = NULL;
	for (struct session *session = by_id[name_bucket(client_id)]; session; session = session->next_of_id) {
		if (strcmp(session->client_id, client_id))
			continue;
		if (session->is_bridge == is_bridge && !strcmp(session->username, username))
			continue;
		if (session->client)
			return session;
		stored = session;
	}
	return stored;
}

struct session *session_open(const void *client, const char *client_id, const char *username, bool is_bridge)
{
	struct session *before = session_named(client_id, username);
	size_t length = strlen(client_id);
	struct session *session = mosquitto_calloc(1, sizeof *session + length + 1);
	if (!session)
		return NULL;
	session->client = client;
	session->is_bridge = is_bridge;
	memcpy(session->client_id, client_id, length + 1);
	memcpy(session->username, username, strlen(username) + 1);
	if (before)
		memcpy(session->number, before->number, sizeof session->number);
	if (before && !before->client)
		session_forget(before);
	struct session **link = &by_id[name_bucket(client_id)];
	session->next_of_id = *link;
	*link = session;
	link = &by_username[name_bucket(username)];
	session->next_of_username = *link;
	*link = session;
	session_touch(session);
	return session;
}

/* Buckets begin with the newest session. */
static void forget_oldest_stored(const char *username)
{
	unsigned kept = 0;
	struct session *next;
	for (struct session *session = by_username[name_bucket(username)]; session; session = next) {
		next = session->next_of_username;
		if (!session->client && !strcmp(session->username, username) && ++kept > STORED_PER_USERNAME)
			session_forget(session);
	}
}

void session_close(struct session *session, bool is_kept)
{
	session->client = NULL;
	session->is_told = session->has_own = session->has_number = false;
	untold_remove(session);
	/* A newer connection under the same client id has taken the session over. */
	if (session_named(session->client_id, session->username) != session)
		is_kept = false;
	if (is_kept && !session->is_ended)
		forget_oldest_stored(session->username);
	else
		session_forget(session);
}

static void end(struct session *session)
{
	session->is_ended = true;
	ended++;
}

void sessions_end_oldest(const struct session *newest, unsigned most)
{
	unsigned live = 1;
	struct session *oldest = NULL, *first = by_username[name_bucket(newest->username)];
	/* Buckets begin with the newest session. */
	for (struct session *session = first; session; session = session->next_of_username) {
		if (!session->client || session->is_ended || strcmp(session->username, newest->username))
			continue;
		/* The broker ends those by itself; to end them by their client id would end the newest. */
		if (!strcmp(session->client_id, newest->client_id))
			continue;
		oldest = session;
		live++;
	}
	if (live > most && oldest)
		end(oldest);
}

void sessions_end(const char *username)
{
	struct session *next;
	for (struct session *session = by_username[name_bucket(username)]; session; session = next) {
		next = session->next_of_username;
		if (strcmp(session->username, username) || session->is_bridge || session->is_ended)
			continue;
		if (session->client)
			end(session);
		else
			session_forget(session);
	}
}

struct session *sessions_next_ended(void)
{
	/* Continues where the last one was found, so that ending many sessions does not scan all buckets for each. */
	static unsigned at;
	for (unsigned looked = 0; ended > 0 && looked < NAME_BUCKETS; looked++, at = (at + 1) % NAME_BUCKETS)
		for (struct session *session = by_id[at]; session; session = session->next_of_id)
			if (session->is_ended)
				return session;
	return NULL;
}
