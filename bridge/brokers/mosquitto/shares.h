/* What each device may take of the broker, so that it cannot starve the others: one token bucket for each kind. */
#ifndef EDGE_OTA_SHARES_H
#define EDGE_OTA_SHARES_H

#include <stdbool.h>

enum share { MESSAGES, REQUESTS, CONNECTS, SHARES };

/* `per_minute` in the long run, and `at_once` after a pause. Both are at least 1. */
void shares_allow(enum share share, double per_minute, double at_once);
void shares_free(void);

/* Takes one from the device's share. False: there is none left, or no memory. */
bool share_take(const char *username, enum share share);
/* The device's connection was closed for taking too much: it is cut off until a tenth of that share is back. */
void share_cut_off(const char *username, enum share share);
bool share_is_cut_off(const char *username);
/* True at most once a second for each device, so that the bridge is told no more often. */
bool share_is_to_be_told(const char *username);
/* Forgets some of the devices whose shares are whole. */
void shares_tick(void);

#endif
