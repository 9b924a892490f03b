#define _DEFAULT_SOURCE
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_WITHIN_MS 50
#define CONNECT_EVERY_MS 1000
/* After this many unanswered questions in a row, none is asked for QUIET_MS, so that a bridge that hangs slows nothing. */
#define MISSES_ALLOWED 3
#define QUIET_MS 1000
#define OUT_BYTES 65536
/* With less room than this, the buffer is written before the next line. The longest line asks about a password. */
#define LINE_ROOM 2048
/* The bridge's lines are much shorter; a longer line ends the connection. */
#define IN_BYTES 4096
/* Reads per tick, so that a bridge that never stops sending does not hold up the broker. */
#define READS_PER_TICK 16

static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct link_events events;
static int fd = -1;
static char out[OUT_BYTES], in[IN_BYTES];
static size_t out_length, in_length;
static long long next_connect_ms, quiet_until_ms;
static unsigned misses;
static unsigned long last_number;

static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

bool link_init(const char *path, struct link_events wanted)
{
	if (strlen(path) >= sizeof address.sun_path)
		return false;
	strcpy(address.sun_path, path);
	events = wanted;
	return true;
}

void link_free(void)
{
	if (fd >= 0)
		close(fd);
	fd = -1;
	in_length = out_length = 0;
}

static void connect_if_due(void)
{
	long long now = now_ms();
	if (fd >= 0 || now < next_connect_ms)
		return;
	next_connect_ms = now + CONNECT_EVERY_MS;
	int fresh = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fresh < 0)
		return;
	if (connect(fresh, (struct sockaddr *)&address, sizeof address) < 0) {
		close(fresh);
		return;
	}
	fd = fresh;
	misses = 0;
	quiet_until_ms = 0;
	events.opened();
}

static void write_out(void)
{
	while (fd >= 0 && out_length > 0) {
		ssize_t count = send(fd, out, out_length, MSG_NOSIGNAL);
		if (count > 0) {
			out_length -= (size_t)count;
			memmove(out, out + count, out_length);
		} else if (count < 0 && errno == EINTR) {
			continue;
		} else {
			if (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
				link_free();
			return;
		}
	}
}

static bool add_line(const char *format, va_list arguments)
{
	if (sizeof out - out_length < LINE_ROOM)
		write_out();
	if (fd < 0)
		return false;
	size_t room = sizeof out - out_length;
	int length = vsnprintf(out + out_length, room, format, arguments);
	if (length < 0 || (size_t)length + 1 > room)
		return false;
	out_length += (size_t)length;
	out[out_length++] = '\n';
	return true;
}

bool link_send(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	bool is_sent = add_line(format, arguments);
	va_end(arguments);
	return is_sent;
}

void link_tell(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	bool is_sent = add_line(format, arguments);
	va_end(arguments);
	if (!is_sent)
		link_free();
}

/* False: there is nothing more to read now, or the connection is gone. */
static bool read_in(void)
{
	if (fd < 0 || in_length == sizeof in)
		return false;
	ssize_t count = recv(fd, in + in_length, sizeof in - in_length, 0);
	if (count > 0) {
		in_length += (size_t)count;
		return true;
	}
	if (count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		link_free();
	return false;
}

/*
 * Handles the complete lines, up to the answer to question `number`: lines after a yes may concern the session that is
 * only made from that yes. Returns 1 or 0 for the answer, -1 if it is not among the lines.
 */
static int take_lines(unsigned long number)
{
	size_t from = 0;
	int answer = -1;
	char *end;
	while (answer < 0 && (end = memchr(in + from, '\n', in_length - from))) {
		char *line = in + from;
		*end = '\0';
		from = (size_t)(end - in) + 1;
		if (line[0] == 'K' && line[1] == ' ') {
			events.revoked(line + 2);
		} else {
			char *rest;
			unsigned long of = strtoul(line, &rest, 10);
			bool is_answer = rest != line && rest[0] == ' ' && (rest[1] == '0' || rest[1] == '1') && !rest[2];
			if (!is_answer) {
				link_free();
				return -1;
			}
			/* Answers to questions that timed out are ignored. */
			if (of == number)
				answer = rest[1] == '1';
		}
	}
	in_length -= from;
	memmove(in, in + from, in_length);
	if (answer < 0 && in_length == sizeof in)
		link_free();
	return answer;
}

bool link_ask(char kind, const char *first, const char *second)
{
	long long now = now_ms(), until = now + ANSWER_WITHIN_MS;
	unsigned long number = ++last_number;
	if (now < quiet_until_ms || !link_send("%c %lu %s %s", kind, number, first, second))
		return false;
	for (;;) {
		write_out();
		read_in();
		int answer = take_lines(number);
		if (answer >= 0) {
			misses = 0;
			return answer == 1;
		}
		if (fd < 0)
			return false;
		now = now_ms();
		if (now >= until)
			break;
		struct pollfd wait = { .fd = fd, .events = (short)(POLLIN | (out_length > 0 ? POLLOUT : 0)) };
		poll(&wait, 1, (int)(until - now));
	}
	if (++misses >= MISSES_ALLOWED)
		quiet_until_ms = now_ms() + QUIET_MS;
	return false;
}

void link_tick(void)
{
	connect_if_due();
	for (int reads = 0; reads < READS_PER_TICK && read_in(); reads++)
		take_lines(0);
	/* Lines that link_ask left in the buffer after its answer. */
	take_lines(0);
	write_out();
}
