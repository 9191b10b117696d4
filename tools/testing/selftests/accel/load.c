// SPDX-License-Identifier: GPL-2.0
/* Users that keep a device busy until it is gone. */

#define ACCEL_TEST_PART
#include "shape.h"

#include <sched.h>

#define BUFFER (256 * KIB)
#define PAGE 4096
#define REST_MS 5

/* What a busy device may answer, and nothing is wrong. */
static bool is_busy(int ret)
{
	return ret == -EAGAIN || ret == -EINTR || ret == -EBUSY;
}

static int call(struct loader *loader)
{
	struct accel_info_state state;
	uint32_t buffer;
	int ret;

	ret = accel_info(loader->load->fd, ACCEL_INFO_STATE, 0, &state,
			 sizeof(state));
	if (!ret)
		ret = accel_buffer_create(loader->load->fd, 4 * PAGE, &buffer);
	if (!ret)
		ret = accel_buffer_destroy(loader->load->fd, buffer);
	return ret;
}

static int submit(struct loader *loader)
{
	int fd = loader->load->fd;
	uint32_t timeline;
	uint64_t point;
	int ret;

	ret = accel_timeline_create(fd, &timeline);
	if (ret)
		return ret;
	for (int i = 0; i < 2 && !ret; i++)
		ret = accel_submit(fd, timeline, &point);
	if (!ret || is_busy(ret))
		ret = accel_timeline_destroy(fd, timeline);
	return ret;
}

/* A moment, and every other time for ever: until the device is gone. */
static int wait_for(struct loader *loader)
{
	int fd = loader->load->fd;
	uint32_t timeline;
	uint64_t point;
	int ret;

	ret = accel_timeline_create(fd, &timeline);
	if (ret)
		return ret;
	ret = accel_submit(fd, timeline, &point);
	if (!ret)
		ret = accel_timeline_wait(fd, timeline, point,
					  accel_now() + NSEC_PER_SEC, NULL,
					  NULL);
	if (ret == -ETIME)
		ret = 0;
	if (!ret && loader->calls > 1 && (loader->number & 1))
		ret = accel_timeline_wait(fd, timeline, ~0ULL, FOREVER, NULL,
					  NULL);
	return ret ? ret : accel_timeline_destroy(fd, timeline);
}

static int map(struct loader *loader)
{
	int fd = loader->load->fd, ret;
	uint32_t buffer;
	void *at, *place;

	ret = accel_buffer_create(fd, BUFFER, &buffer);
	if (ret)
		return ret;
	at = accel_buffer_map(fd, buffer, BUFFER, PROT_READ | PROT_WRITE);
	if (!at)
		return -errno;
	place = mmap(NULL, BUFFER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (place == MAP_FAILED ||
	    mremap(at, BUFFER, BUFFER, MREMAP_MAYMOVE | MREMAP_FIXED, place) ==
		    MAP_FAILED) {
		munmap(at, BUFFER);
		return -errno;
	}
	munmap(place, BUFFER / 2);
	munmap((char *)place + BUFFER / 2, BUFFER / 2);
	return accel_buffer_destroy(fd, buffer);
}

/* Pages fault, and again in a mapping that takes the place of this one. */
static int fault(struct loader *loader)
{
	int fd = loader->load->fd, ret = 0;
	uint32_t buffer;
	uint64_t offset;
	char *at;

	at = accel_buffer_new(fd, BUFFER, &buffer);
	if (!at)
		return -errno;
	ret = accel_buffer_mmap(fd, buffer, &offset, NULL);
	for (int i = 0; i < 2 && !ret; i++) {
		for (size_t page = 0; page < BUFFER && !ret;
		     page += PAGE * accel_patience())
			if (accel_touch_write(at + page))
				ret = -ENODEV;
		if (!ret &&
		    mmap(at, BUFFER, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, offset) == MAP_FAILED)
			ret = -errno;
	}
	munmap(at, BUFFER);
	return ret ? ret : accel_buffer_destroy(fd, buffer);
}

/* Files come and go beside the one that the others use. */
static int open_close(struct loader *loader)
{
	uint32_t timeline;
	int fd, ret;

	fd = open(loader->load->node, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENXIO ? -ENODEV : -errno;
	ret = accel_timeline_create(fd, &timeline);
	close(fd);
	return ret;
}

static void *loader_thread(void *data)
{
	static int (*const what[LOAD_THREADS])(struct loader *) = {
		submit, fault, call, wait_for, map, wait_for, open_close, fault,
	};
	struct loader *loader = data;

	while (!__atomic_load_n(&loader->load->stop, __ATOMIC_RELAXED)) {
		int ret = what[loader->number](loader);

		__atomic_add_fetch(&loader->calls, 1, __ATOMIC_RELAXED);
		if (ret == -ENODEV)
			break;
		if (ret && !is_busy(ret)) {
			loader->bad = ret;
			break;
		}
		/* Where calls are slow, others have a turn, too. */
		if (accel_patience() > 1)
			accel_sleep_ms(REST_MS);
	}
	return NULL;
}

int load_start(struct load *load, const char *node, unsigned int threads)
{
	int ret;

	memset(load, 0, sizeof(*load));
	snprintf(load->node, sizeof(load->node), "%s", node);
	load->fd = open(node, O_RDWR | O_CLOEXEC);
	if (load->fd < 0)
		return -errno;
	for (; load->threads < threads; load->threads++) {
		struct loader *loader = &load->loaders[load->threads];

		loader->load = load;
		loader->number = load->threads;
		ret = pthread_create(&loader->thread, NULL, loader_thread,
				     loader);
		if (ret)
			return -ret;
	}
	return 0;
}

bool load_is_on(const struct load *load)
{
	int64_t until = accel_now() + 10 * NSEC_PER_SEC * accel_patience();

	for (unsigned int i = 0; i < load->threads; i++) {
		while (!__atomic_load_n(&load->loaders[i].calls,
					__ATOMIC_RELAXED)) {
			if (accel_now() > until)
				return false;
			sched_yield();
		}
	}
	return true;
}

int load_join(struct load *load)
{
	int bad = 0;

	for (unsigned int i = 0; i < load->threads; i++) {
		pthread_join(load->loaders[i].thread, NULL);
		if (!load->loaders[i].bad)
			continue;
		bad = load->loaders[i].bad;
		fprintf(stderr, "# loader %u: %s\n", i, strerror(-bad));
	}
	load->threads = 0;
	return bad;
}

int load_end(struct load *load)
{
	int bad = load_join(load);

	close(load->fd);
	return bad;
}
