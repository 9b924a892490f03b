#define _DEFAULT_SOURCE
#include "shares.h"

#include <mosquitto_broker.h>
#include <string.h>
#include <time.h>

#include "sessions.h"

#define BUCKETS_PER_TICK 256
#define TELL_EVERY_MS 1000
#define MINUTE_MS 60000.0

struct device {
	struct device *next;
	double left[SHARES];
	long long at_ms, told_ms;
	/* The share for which it is cut off; SHARES: none. */
	enum share cut_off;
	char username[NAME_MAX_LENGTH + 1];
};

static struct {
	double per_minute, at_once;
} allowed[SHARES];

/* Only devices that were let in, and only while a share of theirs is not whole. */
static struct device *devices[NAME_BUCKETS];

static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void shares_allow(enum share share, double per_minute, double at_once)
{
	allowed[share].per_minute = per_minute;
	allowed[share].at_once = at_once;
}

static void refill(struct device *device)
{
	long long now = now_ms();
	for (int share = 0; share < SHARES; share++) {
		device->left[share] += (double)(now - device->at_ms) * allowed[share].per_minute / MINUTE_MS;
		if (device->left[share] > allowed[share].at_once)
			device->left[share] = allowed[share].at_once;
	}
	device->at_ms = now;
	if (device->cut_off != SHARES && device->left[device->cut_off] >= allowed[device->cut_off].at_once / 10)
		device->cut_off = SHARES;
}

static struct device *find(const char *username)
{
	for (struct device *device = devices[name_bucket(username)]; device; device = device->next) {
		if (!strcmp(device->username, username)) {
			refill(device);
			return device;
		}
	}
	return NULL;
}

static struct device *find_or_add(const char *username)
{
	struct device *device = find(username);
	if (device)
		return device;
	device = mosquitto_calloc(1, sizeof *device);
	if (!device)
		return NULL;
	strcpy(device->username, username);
	for (int share = 0; share < SHARES; share++)
		device->left[share] = allowed[share].at_once;
	device->at_ms = now_ms();
	device->told_ms = device->at_ms - TELL_EVERY_MS;
	device->cut_off = SHARES;
	struct device **link = &devices[name_bucket(username)];
	device->next = *link;
	*link = device;
	return device;
}

bool share_take(const char *username, enum share share)
{
	struct device *device = find_or_add(username);
	if (!device || device->left[share] < 1)
		return false;
	device->left[share]--;
	return true;
}

void share_cut_off(const char *username, enum share share)
{
	struct device *device = find_or_add(username);
	if (device)
		device->cut_off = share;
}

bool share_is_cut_off(const char *username)
{
	struct device *device = find(username);
	return device && device->cut_off != SHARES;
}

bool share_is_to_be_told(const char *username)
{
	struct device *device = find(username);
	if (!device || device->at_ms - device->told_ms < TELL_EVERY_MS)
		return false;
	device->told_ms = device->at_ms;
	return true;
}

static bool is_whole(struct device *device)
{
	refill(device);
	for (int share = 0; share < SHARES; share++)
		if (device->left[share] < allowed[share].at_once)
			return false;
	return true;
}

void shares_tick(void)
{
	static unsigned at;
	for (unsigned looked = 0; looked < BUCKETS_PER_TICK; looked++, at = (at + 1) % NAME_BUCKETS) {
		struct device **link = &devices[at];
		while (*link) {
			struct device *device = *link;
			if (is_whole(device)) {
				*link = device->next;
				mosquitto_free(device);
			} else {
				link = &device->next;
			}
		}
	}
}

void shares_free(void)
{
	for (unsigned at = 0; at < NAME_BUCKETS; at++) {
		while (devices[at]) {
			struct device *device = devices[at];
			devices[at] = device->next;
			mosquitto_free(device);
		}
	}
}
