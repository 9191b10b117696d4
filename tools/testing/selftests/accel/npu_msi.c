// SPDX-License-Identifier: GPL-2.0
/*
 * Two cards of the kind that has MSI and no MSI-X: they work, and neither
 * notices what becomes of the other.
 */

#include "kselftest_harness.h"
#include "npu.h"

#define CARDS 2
#define DATA NPU_FREE

struct card {
	char address[32];
	char node[64];
};

FIXTURE(npu_msi)
{
	struct card cards[CARDS];
};

static int find(struct card *cards)
{
	struct accel_pci pci;

	if (accel_pci_find_id(&pci, 0x1af4, 0x10f0) != CARDS)
		return -ENODEV;
	for (int i = 0; i < CARDS; i++) {
		int number = accel_pci_number(pci.address[i]);

		if (number < 0)
			return number;
		snprintf(cards[i].address, sizeof(cards[i].address), "%s",
			 pci.address[i]);
		snprintf(cards[i].node, sizeof(cards[i].node),
			 "/dev/accel/accel%d", number);
	}
	return 0;
}

FIXTURE_SETUP(npu_msi)
{
	ASSERT_EQ(0, find(self->cards));
	for (int i = 0; i < CARDS; i++)
		ASSERT_EQ(0, npu_control_card(i, "clear", NULL, 0));
}

static int check(const struct card *card)
{
	struct npu npu;
	int ret;

	ret = npu_open_node(&npu, card->node);
	if (ret)
		return ret;
	ret = npu_check(&npu);
	npu_close(&npu);
	return ret;
}

FIXTURE_TEARDOWN(npu_msi)
{
	for (int i = 0; i < CARDS; i++) {
		EXPECT_EQ(0, npu_control_card(i, "clear", NULL, 0));
		EXPECT_EQ(0, check(&self->cards[i]));
	}
}

/* Interrupts of a card's driver since boot, and how many lines it has. */
static long interrupts_of(const char *kind, int *lines)
{
	char line[1024];
	long sum = 0;
	FILE *file;

	*lines = 0;
	file = fopen("/proc/interrupts", "re");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		char *word, *rest = NULL;

		if (!strstr(line, kind) || !strstr(line, "accel"))
			continue;
		++*lines;
		strtok_r(line, ":", &rest);
		while ((word = strtok_r(NULL, " ", &rest)) &&
		       strspn(word, "0123456789") == strlen(word))
			sum += atol(word);
	}
	fclose(file);
	return sum;
}

TEST_F(npu_msi, jobs)
{
	int lines;
	long before;

	before = interrupts_of("PCI-MSI-", &lines);
	EXPECT_LE(CARDS, lines);
	EXPECT_LE(0, before);
	for (int i = 0; i < 50; i++)
		ASSERT_EQ(0, check(&self->cards[i % CARDS]));
	/* They came by interrupt, not by somebody's patience. */
	EXPECT_LE(before + 50, interrupts_of("PCI-MSI-", &lines));
	/* And not by MSI-X, of which these have none. */
	interrupts_of("PCI-MSIX-", &lines);
	EXPECT_EQ(0, lines);
}

static long stat_of(unsigned int card, const char *name)
{
	char answer[1024], *found, key[32];

	if (npu_control_card(card, "stats", answer, sizeof(answer)))
		return -1;
	snprintf(key, sizeof(key), "%s=", name);
	found = strstr(answer, key);
	return found ? atol(found + strlen(key)) : -1;
}

/* Which is which: a job is counted by the card that it is given to. */
TEST_F(npu_msi, order)
{
	for (int i = 0; i < CARDS; i++) {
		long before[CARDS] = { stat_of(0, "jobs"), stat_of(1, "jobs") };

		ASSERT_EQ(0, check(&self->cards[i]));
		EXPECT_EQ(before[i] + 1, stat_of(i, "jobs"));
		EXPECT_EQ(before[!i], stat_of(!i, "jobs"));
	}
}

/* Contexts and memory of one are not the other's. */
TEST_F(npu_msi, limits)
{
	struct npu npus[ACCEL_NPU_CONTEXTS_MAX];
	int64_t free;
	struct npu other;

	ASSERT_EQ(0, npu_open_node(&other, self->cards[1].node));
	free = npu_memory_free(&other);
	ASSERT_EQ(0, accel_take_all_contexts(self->cards[0].node));
	for (int i = 0; i < ACCEL_NPU_CONTEXTS_MAX; i++)
		ASSERT_EQ(0, npu_open_node(&npus[i], self->cards[0].node));
	EXPECT_EQ(-1, open(self->cards[0].node, O_RDWR | O_CLOEXEC));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, npu_map_device(&npus[0], NPU_RW, 128 * MIB, DATA));
	EXPECT_EQ(free, npu_memory_free(&other));
	EXPECT_EQ(0, npu_map_device(&other, NPU_RW, 128 * MIB, DATA));
	EXPECT_EQ(0, check(&self->cards[1]));
	for (int i = 0; i < ACCEL_NPU_CONTEXTS_MAX; i++)
		npu_close(&npus[i]);
	npu_close(&other);
}

struct busy {
	struct npu npu;
	bool stop;
	int bad;
	int done;
};

static void *busy_thread(void *data)
{
	struct busy *busy = data;

	while (!__atomic_load_n(&busy->stop, __ATOMIC_RELAXED)) {
		busy->bad = npu_check(&busy->npu);
		if (busy->bad)
			break;
		busy->done++;
	}
	return NULL;
}

static int tell(const char *path, const char *address)
{
	return accel_write_line(path, address);
}

#define DRIVER "/sys/bus/pci/drivers/" NPU_DRIVER

/* A hang, a fatal error and an unbind of one, while the other works. */
TEST_F(npu_msi, independent)
{
	struct accel_npu_error error;
	struct busy busy = {};
	pthread_t thread;
	struct npu npu;
	uint64_t point;

	ASSERT_EQ(0, npu_open_node(&busy.npu, self->cards[1].node));
	ASSERT_EQ(0, pthread_create(&thread, NULL, busy_thread, &busy));
	ASSERT_EQ(0, npu_open_node(&npu, self->cards[0].node));
	for (int i = 0; i < 2; i++) {
		struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };

		npu.list[0] = npu_nop();
		ASSERT_EQ(0, npu_forget(&npu));
		ASSERT_EQ(0, npu_control_card(
				     0, i ? "stall 20000" : "hang compute",
				     NULL, 0));
		ASSERT_EQ(0, npu_submit_jobs(&npu, &job, 1, 0, i ? 20000 : 300,
					     &point));
		accel_sleep_ms(30);
		if (i)
			ASSERT_EQ(0,
				  npu_control_card(0, "fatal engine", NULL, 0));
		EXPECT_EQ(i ? -EIO : -ETIMEDOUT, npu_wait(&npu, point));
		EXPECT_EQ(0, npu_error(&npu, &error));
	}
	npu_close(&npu);
	ASSERT_EQ(0, tell(DRIVER "/unbind", self->cards[0].address));
	accel_sleep_ms(50);
	ASSERT_EQ(0, tell(DRIVER "/bind", self->cards[0].address));
	__atomic_store_n(&busy.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, busy.bad);
	EXPECT_LT(10, busy.done);
	EXPECT_EQ(-ENODATA, npu_error(&busy.npu, &error));
	npu_close(&busy.npu);
	EXPECT_EQ(0, find(self->cards));
}

/* Taken off the bus in the midst of a job, and found again. */
TEST_F(npu_msi, removed_and_rescanned)
{
	char path[128];
	struct npu npu;
	uint64_t point;

	for (int round = 0; round < 3; round++) {
		struct accel_npu_job job = { .address = NPU_LIST, .count = 1 };
		int64_t before;

		ASSERT_EQ(0, npu_open_node(&npu, self->cards[0].node));
		npu.list[0] = npu_nop();
		ASSERT_EQ(0, npu_control_card(0, "stall 20000", NULL, 0));
		ASSERT_EQ(0, npu_submit_jobs(&npu, &job, 1, 0, 20000, &point));
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove",
			 self->cards[0].address);
		before = accel_now();
		ASSERT_EQ(0, tell(path, "1"));
		EXPECT_GT(5 * NSEC_PER_SEC, accel_now() - before);
		EXPECT_EQ(-ENODEV, npu_wait(&npu, point));
		EXPECT_EQ(0, check(&self->cards[1]));
		npu_close(&npu);
		ASSERT_EQ(0, npu_control_card(0, "clear", NULL, 0));
		ASSERT_EQ(0, tell("/sys/bus/pci/rescan", "1"));
		ASSERT_EQ(0, find(self->cards));
		EXPECT_EQ(0, check(&self->cards[0]));
	}
}

TEST_HARNESS_MAIN
