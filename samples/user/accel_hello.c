// SPDX-License-Identifier: GPL-2.0
/*
 * The smallest program that uses an accelerator.
 *
 * Build: cc -I include/uapi -o accel_hello samples/user/accel_hello.c
 * Run:   ./accel_hello /dev/accel/accel0
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <accel/accel_edu.h>
#include <accel/accel_null.h>

/* Every call is an ioctl with a struct; what went wrong is in errno. */
#define CALL(dev, request, argument) \
	(ioctl(dev, request, argument) ? err(1, #request) : (void)0)

/* The answer goes into a buffer; a timeline tells when it is there. */
static void factorial(int dev, unsigned int number)
{
	struct accel_buffer_create buffer = { .size = sizeof(__u32) };
	struct accel_timeline_create timeline = { .flags = 0 };

	CALL(dev, ACCEL_IOCTL_BUFFER_CREATE, &buffer);
	CALL(dev, ACCEL_IOCTL_TIMELINE_CREATE, &timeline);

	struct accel_edu_factorial job = {
		.numbers = (__u64)(unsigned long)&number,
		.count = 1,
		.timeline = timeline.handle,
		.dst = buffer.handle,
	};
	CALL(dev, ACCEL_EDU_IOCTL_FACTORIAL, &job);

	/* The job runs. Sleep, without limit, until the timeline is at its point. */
	struct accel_timeline_wait wait = {
		.handle = timeline.handle,
		.point = job.point,
		.deadline_ns = 0x7fffffffffffffff,
	};
	CALL(dev, ACCEL_IOCTL_TIMELINE_WAIT, &wait);
	if (wait.status)
		errx(1, "the job ended with error %d", -wait.status);

	struct accel_buffer_mmap map = { .handle = buffer.handle };

	CALL(dev, ACCEL_IOCTL_BUFFER_MMAP, &map);

	__u32 *answer =
		mmap(NULL, map.size, PROT_READ, MAP_SHARED, dev, map.offset);

	if (answer == MAP_FAILED)
		err(1, "mmap");
	printf("%u! = %u\n", number, *answer);
}

int main(int argc, char **argv)
{
	struct accel_info_identity who;
	struct accel_info info = { .query = ACCEL_INFO_IDENTITY,
				   .size = sizeof(who) };
	struct accel_null_add add = { .a = 2, .b = 3 };
	int dev = open(argc > 1 ? argv[1] : "/dev/accel/accel0",
		       O_RDWR | O_CLOEXEC);

	if (dev < 0)
		err(1, "open");

	/* Every device answers this. */
	info.ptr = (__u64)(unsigned long)&who;
	CALL(dev, ACCEL_IOCTL_INFO, &info);
	printf("accel%u: driver %s, on %s %s\n", who.number, who.driver,
	       who.bus, who.parent);

	/* The rest is the driver's own: its name says which header has it. */
	if (!strcmp(who.uapi_name, "accel_edu")) {
		factorial(dev, 10);
	} else if (!strcmp(who.uapi_name, "accel_null")) {
		CALL(dev, ACCEL_NULL_IOCTL_ADD, &add);
		printf("2 + 3 = %llu\n", (unsigned long long)add.b);
	}
	return 0; /* closing the file, here or at exit, gives everything back */
}
