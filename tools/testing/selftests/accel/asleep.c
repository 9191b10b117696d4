// SPDX-License-Identifier: GPL-2.0

#define ACCEL_TEST_PART
#include "asleep.h"

#include <ftw.h>
#include <limits.h>

/* After how long without a call a device is idle, in these tests. */
#define DELAY "100"
#define DELAY_FILE "power/autosuspend_delay_ms"

int asleep_cycles(int most, int share)
{
	const char *asked = getenv("ACCEL_CYCLES");

	return asked ? (atoi(asked) + share - 1) / share : most;
}

void asleep_told(const char *program, const char *shape, int count)
{
	const char *kind = getenv("ACCEL_KIND");

	fprintf(stderr, "# stress: shape=%s%s%s/%s cycles=%d\n", program,
		kind ? "." : "", kind ? kind : "", shape, count);
}

void asleep_parent_path(char *path, size_t size, const char *file)
{
	snprintf(path, size, "/sys/class/%s/accel%u/device/%s", accel_class(),
		 accel_target()->number, file);
}

int asleep_set_parent(const char *file, const char *value)
{
	char path[160];

	asleep_parent_path(path, sizeof(path), file);
	return accel_write_line(path, value);
}

int64_t asleep_parent_number(const char *file)
{
	char path[160], line[64];

	asleep_parent_path(path, sizeof(path), file);
	if (accel_read_line(path, line, sizeof(line)))
		return -1;
	return strtoll(line, NULL, 10);
}

bool asleep_parent_is(const char *file, const char *value)
{
	int64_t end = accel_now() + ASLEEP_SOON_MS * NSEC_PER_MSEC;
	char path[160], line[64];

	asleep_parent_path(path, sizeof(path), file);
	do {
		if (accel_read_line(path, line, sizeof(line)))
			return false;
		if (!strcmp(line, value))
			return true;
		accel_sleep_ms(1);
	} while (accel_now() < end);
	return false;
}

struct accel_info_state asleep_state(int fd)
{
	struct accel_info_state state = { .state = ~0U };

	accel_info(fd, ACCEL_INFO_STATE, 0, &state, sizeof(state));
	return state;
}

uint32_t asleep_wait(int fd, uint32_t wanted)
{
	int64_t end = accel_now() + ASLEEP_SOON_MS * NSEC_PER_MSEC;
	uint32_t state;

	do {
		state = asleep_state(fd).state;
		if (state == wanted)
			break;
		accel_sleep_ms(1);
	} while (accel_now() < end);
	return state;
}

uint64_t asleep_resets(int fd, uint32_t cause)
{
	struct accel_info_resets resets = {};

	for (uint32_t i = 0;
	     !accel_info(fd, ACCEL_INFO_RESETS, i, &resets, sizeof(resets));
	     i++)
		if (resets.cause == cause)
			return resets.count;
	return ~0ULL;
}

int asleep_event(int fd, struct accel_event_state *event)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	if (poll(&poll_fd, 1, ASLEEP_SOON_MS) != 1)
		return -ETIMEDOUT;
	return accel_read(fd, event, sizeof(*event));
}

static int attributes_read;

static int read_attribute(const char *path, const struct stat *stat, int type,
			  struct FTW *ftw)
{
	char value[4096];
	int fd;

	(void)ftw;
	/* Their driver may have nothing to say; who sleeps has not. */
	if (type != FTW_F || !(stat->st_mode & 0400))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (read(fd, value, sizeof(value)) >= 0)
		attributes_read++;
	close(fd);
	return 0;
}

int asleep_look(int fd)
{
	const char *const names[] = { "accel", "accel_control" };
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct accel_info_identity id;
	struct accel_info_opens opens;
	int control, ret;

	control = accel_open_control(O_RDWR | O_CLOEXEC);
	if (control < 0)
		return control;
	ret = accel_info(control, ACCEL_INFO_IDENTITY, 0, &id, sizeof(id));
	if (!ret)
		ret = accel_info(fd, ACCEL_INFO_OPENS, 0, &opens,
				 sizeof(opens));
	close(control);
	if (ret)
		return ret;
	if (poll(&poll_fd, 1, 0) < 0)
		return -errno;
	if (accel_fdinfo(fd, "pos") < 0)
		return -EPROTO;
	attributes_read = 0;
	for (int i = 0; i < 2; i++) {
		char path[96], folder[PATH_MAX];

		snprintf(path, sizeof(path), "/sys/class/%s/%s%u",
			 accel_class(), names[i], accel_target()->number);
		if (!realpath(path, folder))
			return -errno;
		ret = nftw(folder, read_attribute, 8, FTW_PHYS);
		if (ret)
			return ret < 0 ? ret : -EPROTO;
	}
	return attributes_read;
}

int asleep_job(int fd)
{
	uint32_t timeline;
	int32_t status = 1;
	uint64_t point;
	int ret;

	ret = accel_timeline_create(fd, &timeline);
	if (!ret)
		ret = accel_submit(fd, timeline, &point);
	if (!ret)
		ret = accel_timeline_wait(fd, timeline, point,
					  accel_now() + ASLEEP_SOON_MS *
								NSEC_PER_MSEC,
					  NULL, &status);
	if (!ret)
		accel_timeline_destroy(fd, timeline);
	return ret ? ret : status;
}

int asleep_nap(int fd, uint32_t flags, struct accel_mock_sleep *told)
{
	struct accel_mock_sleep arg = { .flags = flags };
	int ret = accel_ioctl(fd, ACCEL_MOCK_IOCTL_SLEEP, &arg);

	if (told)
		*told = arg;
	return ret;
}

int asleep_hurry(bool soon)
{
	static char ever[32] = "-1";
	bool is_mock = accel_target()->kind == ACCEL_MOCK;
	char path[160], now[32];
	int ret;

	asleep_parent_path(path, sizeof(path), DELAY_FILE);
	ret = accel_read_line(path, now, sizeof(now));
	/* A mock that was not told when has no such thing, and never sleeps. */
	if (ret && is_mock) {
		if (!soon)
			return accel_restore();
		if (accel_loaded(MOCK_DRIVER))
			accel_rmmod(MOCK_DRIVER);
		return accel_modprobe(MOCK_DRIVER, "autosuspend_ms=" DELAY);
	}
	if (ret)
		return ret;
	if (!is_mock && !strcmp(ever, "-1"))
		strcpy(ever, now);
	ret = accel_write_line(path, soon ? DELAY : ever);
	/* On PCI nothing sleeps before root lets it. */
	if (!ret && !is_mock)
		ret = asleep_set_parent("power/control", soon ? "auto" : "on");
	return ret;
}

int asleep_begin(bool soon, int *fd, int *control)
{
	int ret = asleep_hurry(soon);

	if (ret)
		return ret;
	*fd = accel_open(O_RDWR | O_CLOEXEC);
	*control = accel_open_control(O_RDWR | O_CLOEXEC);
	return *fd < 0 ? *fd : *control < 0 ? *control : 0;
}

void asleep_end(int fd, int control)
{
	close(fd);
	close(control);
}
