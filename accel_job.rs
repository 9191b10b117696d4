// SPDX-License-Identifier: GPL-2.0

//! Timelines: everything that completes later.
//!
//! A driver submits a job to a timeline of the file and gets a [`Job`], which has a point. Ending
//! the job, or dropping it, is all that the driver does; the value of the timeline is the greatest
//! point up to which every job has ended, so jobs may end in any order. Users sleep until a point,
//! poll, or bind an eventfd to a point.
//!
//! # Life
//!
//! Timelines belong to the core: the file's handle, waiters and jobs refer to them, and they refer
//! to nothing but the file's [`Watch`]. Waiters sleep outside of the gate and look, when they are
//! woken, whether the device is going. A job that the driver never ends ends as `ECANCELED` when
//! the driver's data or context is dropped, so no wait outlives the device or the file.
//!
//! # Locks
//!
//! A timeline's state is behind a spinlock that is held for a few instructions; eventfds are
//! signalled and files woken after it. Jobs end in process context (an interrupt's thread, a call).
//!
//! Who sleeps in a call of ours is woken at once. Eventfds and pollers are left to a work item of
//! the file ([`Watch`]): users decide how many are behind each, and whoever ends a job, the device
//! or its jobs in a row is not to wait for them.

use crate::{
    bindings::{
        errno::ECANCELED,
        pages::cond_resched,
        uapi,
        wait::{
            now_ns,
            EventFd,
            WaitQueue, //
        },
        work::Later, //
    },
    event::{
        Events,
        Fault,
        What, //
    },
    limits::{
        Charge,
        FileAccount,
        Limit, //
    }, //
};
use kernel::{
    impl_has_work,
    new_spinlock,
    new_work,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode,
        RBTreeNodeReservation, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SetOnce,
        SpinLock, //
    },
    task::might_sleep,
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// What jobs keep of a file: where those wait who use it, how much of it they have not seen, and its
/// account. The work item that wakes them keeps it alive, and needs nothing else.
#[pin_data]
pub(crate) struct Watch {
    #[pin]
    queue: WaitQueue,
    account: FileAccount,
    /// Timelines with a value that nobody has been told.
    unseen: Atomic<i32>,
    /// Eventfds that wait.
    eventfds: Atomic<u32>,
    /// Made when the file first wants some: most files never do.
    events: SetOnce<Pin<KBox<Events>>>,
    /// Eventfds that `waking` is to signal.
    #[pin]
    due: SpinLock<Eventfds>,
    #[pin]
    waking: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Watch { self.waking }
}

impl WorkItem for Watch {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.queue.wake_all();
        while this.signal_one() {
            cond_resched();
        }
    }
}

impl Watch {
    pub(crate) fn new(account: impl Init<FileAccount>) -> impl PinInit<Self> {
        pin_init!(Self {
            queue <- WaitQueue::new(),
            account <- account,
            unseen: Atomic::new(0),
            eventfds: Atomic::new(0),
            events: SetOnce::new(),
            due <- new_spinlock!(Eventfds::default(), "accel_due"),
            waking <- new_work!("accel_waking"),
        })
    }

    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    pub(crate) fn account(&self) -> &FileAccount {
        &self.account
    }

    /// Whether a timeline has a value that nobody has been told.
    pub(crate) fn unseen(&self) -> bool {
        self.unseen.load(Relaxed) > 0
    }

    /// The file's events, if it ever wanted some.
    #[inline]
    pub(crate) fn events(&self) -> Option<&Events> {
        self.events.as_ref().map(|events| &**events)
    }

    /// Makes `events` the file's, unless it has some; then gives them back. Not twice at a time.
    pub(crate) fn set_events(&self, events: Pin<KBox<Events>>) -> Option<Pin<KBox<Events>>> {
        if self.events().is_some() {
            return Some(events);
        }
        self.events.populate(events);
        None
    }

    /// Tells the file an event, if it wants it.
    pub(crate) fn tell(self: &Arc<Self>, time_ns: i64, what: What) {
        if self
            .events()
            .is_some_and(|events| events.tell(&self.account, time_ns, what))
        {
            self.wake();
        }
    }

    /// Has all woken who wait or poll. Takes no longer if there are many.
    pub(crate) fn wake(self: &Arc<Self>) {
        if !self.queue.wake_few() {
            Later::queue(self.clone());
        }
    }

    /// Signals one of the eventfds that are due, if there is one.
    fn signal_one(&self) -> bool {
        let entry = self.due.lock().pop();

        if let Some(entry) = &entry {
            entry.eventfd.signal();
        }
        entry.is_some()
    }

    /// Has eventfds signalled, as [`Self::wake`].
    fn signal(self: &Arc<Self>, mut due: Eventfds) {
        if due.first.is_none() {
            return;
        }
        let mut all = self.due.lock();

        while let Some(entry) = due.pop() {
            all.push(entry);
        }
        drop(all);
        Later::queue(self.clone());
    }
}

/// An application that has a compute file open, for as long as it does and longer: a driver may keep
/// this in what it knows of a context, to tell it of faults that no job is known for.
#[derive(Clone)]
pub struct Client(Arc<Watch>);

impl Client {
    pub(crate) fn new(watch: &Arc<Watch>) -> Self {
        Self(watch.clone())
    }

    /// Tells the application, and nobody else, of an access that the device made for it and may not
    /// make. Does nothing when it does not want to know, or has closed the file.
    ///
    /// Does not sleep; not from a hard interrupt.
    pub fn fault(&self, fault: Fault) {
        self.0.tell(
            now_ns(),
            What::Fault {
                fault,
                point: 0,
                timeline: 0,
            },
        );
    }
}

/// The first job of a timeline that failed.
#[derive(Clone, Copy)]
struct Failure {
    point: u64,
    errno: i32,
}

struct State {
    /// The point of the latest job.
    submitted: u64,
    /// Up to here every job has ended.
    value: u64,
    /// Whether the value has changed since a user was told.
    unseen: bool,
    /// What the file knows it by; 0 before and after.
    handle: u32,
    /// No handle names it any more: nobody can be told.
    forgotten: bool,
    failure: Option<Failure>,
    /// Points of the jobs that have not ended.
    pending: RBTree<u64, ()>,
    eventfds: Eventfds,
}

impl State {
    fn new() -> Self {
        Self {
            submitted: 0,
            value: 0,
            unseen: false,
            handle: 0,
            forgotten: false,
            failure: None,
            pending: RBTree::new(),
            eventfds: Eventfds::default(),
        }
    }

    /// The point of a new job.
    fn submit(&mut self, reservation: RBTreeNodeReservation<u64, ()>) -> u64 {
        self.submitted += 1;
        self.pending
            .insert(reservation.into_node(self.submitted, ()));
        self.submitted
    }

    /// Ends the job at `point`. Returns whether the value has grown, and what is to be freed.
    fn end(&mut self, point: u64, outcome: Result) -> (bool, Option<RBTreeNode<u64, ()>>) {
        let node = self.pending.remove_node(&point);

        if let Err(err) = outcome {
            if self.failure.is_none_or(|failure| failure.point > point) {
                self.failure = Some(Failure {
                    point,
                    errno: err.to_errno(),
                });
            }
        }
        let value = match self.pending.iter().next() {
            Some((first, ())) => first - 1,
            None => self.submitted,
        };
        let advanced = value > self.value;
        self.value = value;
        (advanced, node)
    }

    /// The errno of the first job up to `point` that failed, or 0.
    fn status(&self, point: u64) -> i32 {
        match self.failure {
            Some(failure) if failure.point <= point => failure.errno,
            _ => 0,
        }
    }
}

/// A count of jobs that have ended, in order.
#[pin_data(PinnedDrop)]
pub struct Timeline {
    watch: Arc<Watch>,
    #[pin]
    state: SpinLock<State>,
}

impl Timeline {
    pub(crate) fn new(watch: Arc<Watch>) -> impl PinInit<Self> {
        pin_init!(Self {
            watch,
            state <- new_spinlock!(State::new(), "accel_timeline"),
        })
    }

    /// Submits a job: the next point is its own.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when the file, its user or the device has as many jobs as it may; `ENOMEM`.
    pub fn submit(self: &Arc<Self>) -> Result<Job> {
        let charge = Charge::new(&self.watch, Limit::Jobs)?;
        let reservation = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let point = self.state.lock().submit(reservation);

        Ok(Job {
            timeline: self.clone(),
            point,
            outcome: Err(ECANCELED.into()),
            _charge: charge,
        })
    }

    /// Ends the job at `point`.
    fn end(&self, point: u64, outcome: Result) {
        might_sleep();
        let mut state = self.state.lock();
        let (advanced, node) = state.end(point, outcome);
        let mut due = Eventfds::default();
        if advanced {
            let value = state.value;
            due = state.eventfds.take_due(value);
            if !state.unseen && !state.forgotten {
                state.unseen = true;
                self.watch.unseen.fetch_add(1, Relaxed);
            }
        }
        drop(state);

        drop(node);
        self.watch.signal(due);
        if advanced {
            self.watch.wake();
        }
    }

    /// Sleeps until the value is at least `point`, or `going()`.
    ///
    /// # Errors
    ///
    /// `ETIME` when `deadline_ns` (`CLOCK_MONOTONIC`) has passed; `ERESTARTSYS`.
    pub(crate) fn wait(&self, point: u64, deadline_ns: i64, going: impl Fn() -> bool) -> Result {
        if self.reached(point) || going() {
            return Ok(());
        }
        self.watch
            .queue
            .wait_until(deadline_ns, || self.reached(point) || going())
    }

    fn reached(&self, point: u64) -> bool {
        self.state.lock().value >= point
    }

    /// Tells a user the value, and the errno of the first job up to `point` that failed, or 0.
    pub(crate) fn observe(&self, point: u64) -> (u64, i32) {
        let mut state = self.state.lock();

        self.set_seen(&mut state);
        (state.value, state.status(point))
    }

    /// The file knows it by `handle`.
    pub(crate) fn set_handle(&self, handle: u32) {
        let mut state = self.state.lock();

        // A user may have guessed the handle, and destroyed it.
        if !state.forgotten {
            state.handle = handle;
        }
    }

    /// The handle is gone: what happens from here on does not make the file readable.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock();

        state.forgotten = true;
        state.handle = 0;
        self.set_seen(&mut state);
    }

    /// What has happened so far does not make the file readable any more.
    fn set_seen(&self, state: &mut State) {
        if state.unseen {
            state.unseen = false;
            self.watch.unseen.fetch_sub(1, Relaxed);
        }
    }

    /// Has eventfd `fd` signalled when the value reaches `point`.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EINVAL` for no eventfd; `ENOSPC` when `ACCEL_EVENTFDS_MAX` of the file wait;
    /// `ENOMEM`.
    pub(crate) fn bind_eventfd(&self, point: u64, fd: i32) -> Result {
        let eventfd = EventFd::get(fd)?;

        if self.reached(point) {
            eventfd.signal();
            return Ok(());
        }
        let entry = KBox::new(
            Entry {
                point,
                eventfd,
                _counted: Counted::new(&self.watch)?,
                next: None,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let mut state = self.state.lock();

        if state.value < point {
            state.eventfds.push(entry);
            return Ok(());
        }
        drop(state);
        entry.eventfd.signal();
        Ok(())
    }

    /// Has all eventfds signalled and forgotten: what they wait for will not come any more.
    pub(crate) fn signal_all(&self) {
        let all = core::mem::take(&mut self.state.lock().eventfds);

        self.watch.signal(all);
    }
}

#[pinned_drop]
impl PinnedDrop for Timeline {
    fn drop(self: Pin<&mut Self>) {
        self.forget();
        self.signal_all();
    }
}

/// A job on a timeline. Dropped without [`Job::end`], it ends as `ECANCELED`.
pub struct Job {
    timeline: Arc<Timeline>,
    point: u64,
    outcome: Result,
    _charge: Charge,
}

impl Job {
    /// Its point: the timeline's value once this job and all before it have ended.
    pub fn point(&self) -> u64 {
        self.point
    }

    /// Tells the application whose job it is, and nobody else, of an access that the device made for
    /// it and may not make. The job does not end by that.
    ///
    /// Does not sleep; not from a hard interrupt.
    pub fn fault(&self, fault: Fault) {
        let timeline = self.timeline.state.lock().handle;

        self.timeline.watch.tell(
            now_ns(),
            What::Fault {
                fault,
                point: self.point,
                timeline,
            },
        );
    }

    /// Ends the job. An error is what those see who wait for this point or a later one.
    pub fn end(mut self, outcome: Result) {
        self.outcome = outcome;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.timeline.end(self.point, self.outcome);
    }
}

/// One of the eventfds that wait on a file.
struct Counted(Arc<Watch>);

impl Counted {
    fn new(watch: &Arc<Watch>) -> Result<Self> {
        match Self::try_new(watch) {
            // Those that are being signalled wait no more, but are still there. There are never
            // many: who is faster than that does it himself.
            None if watch.signal_one() => Self::try_new(watch),
            counted => counted,
        }
        .ok_or(ENOSPC)
    }

    fn try_new(watch: &Arc<Watch>) -> Option<Self> {
        let before = watch.eventfds.fetch_add(1, Relaxed);
        let counted = Self(watch.clone());

        (before < uapi::ACCEL_EVENTFDS_MAX).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.eventfds.fetch_sub(1, Relaxed);
    }
}

/// An eventfd that waits for a point.
struct Entry {
    point: u64,
    eventfd: EventFd,
    _counted: Counted,
    next: Option<KBox<Entry>>,
}

/// Eventfds that wait: a list, so that what was allocated once need not be again.
#[derive(Default)]
struct Eventfds {
    first: Option<KBox<Entry>>,
}

impl Eventfds {
    fn push(&mut self, mut entry: KBox<Entry>) {
        entry.next = self.first.take();
        self.first = Some(entry);
    }

    fn pop(&mut self) -> Option<KBox<Entry>> {
        let mut entry = self.first.take()?;

        self.first = entry.next.take();
        Some(entry)
    }

    /// Takes out those that wait for `value` or less.
    fn take_due(&mut self, value: u64) -> Self {
        let mut due = Self::default();
        let mut rest = Self::default();

        while let Some(entry) = self.pop() {
            if entry.point <= value {
                due.push(entry);
            } else {
                rest.push(entry);
            }
        }
        *self = rest;
        due
    }
}

impl Drop for Eventfds {
    fn drop(&mut self) {
        // One by one: dropped as a list they would recurse.
        while self.pop().is_some() {}
    }
}

#[kunit_tests(accel_timeline)]
mod timeline_tests {
    use super::*;

    /// With `jobs` that were submitted.
    fn state(jobs: u64) -> Result<State> {
        let mut state = State::new();

        for point in 1..=jobs {
            let reservation = RBTreeNodeReservation::new(GFP_KERNEL)?;

            assert_eq!(state.submit(reservation), point);
        }
        Ok(state)
    }

    /// Calls `each` with every order of `items`.
    fn orders(items: &mut [u64], fixed: usize, each: &mut impl FnMut(&[u64]) -> Result) -> Result {
        if fixed == items.len() {
            return each(items);
        }
        for next in fixed..items.len() {
            items.swap(fixed, next);
            orders(items, fixed + 1, each)?;
            items.swap(fixed, next);
        }
        Ok(())
    }

    #[test]
    fn jobs_end_in_any_order() -> Result {
        orders(&mut [1, 2, 3, 4, 5], 0, &mut |order| {
            let mut state = state(5)?;
            let mut ended = [false; 5];

            for point in order {
                let before = state.value;
                let (advanced, node) = state.end(*point, Ok(()));

                ended[*point as usize - 1] = true;
                let first = ended.iter().take_while(|ended| **ended).count() as u64;
                assert!(node.is_some());
                assert_eq!(state.value, first);
                assert_eq!(advanced, first > before);
            }
            assert_eq!((state.value, state.status(5)), (5, 0));
            Ok(())
        })
    }

    #[test]
    fn the_first_failure_is_told() -> Result {
        let outcomes = [Ok(()), Err(EIO), Ok(()), Err(EFAULT), Err(ENOMEM)];

        orders(&mut [1, 2, 3, 4, 5], 0, &mut |order| {
            let mut state = state(5)?;

            for point in order {
                state.end(*point, outcomes[*point as usize - 1]);
            }
            assert_eq!(state.status(1), 0);
            for point in 2..=6 {
                assert_eq!(state.status(point), EIO.to_errno());
            }
            Ok(())
        })
    }

    #[test]
    fn what_is_not_reached_has_not_failed() -> Result {
        let mut state = state(3)?;

        state.end(3, Err(EIO));
        assert_eq!((state.value, state.status(2)), (0, 0));
        assert_eq!(state.status(3), EIO.to_errno());
        Ok(())
    }

    #[test]
    fn submitted_between() -> Result {
        let mut state = state(2)?;

        state.end(1, Ok(()));
        assert_eq!(state.submit(RBTreeNodeReservation::new(GFP_KERNEL)?), 3);
        state.end(3, Ok(()));
        assert_eq!(state.value, 1);
        assert!(state.end(2, Ok(())).0);
        assert_eq!(state.value, 3);
        // Idle, and busy again.
        assert_eq!(state.submit(RBTreeNodeReservation::new(GFP_KERNEL)?), 4);
        assert_eq!(state.value, 3);
        assert!(state.end(4, Ok(())).0);
        assert_eq!(state.value, 4);
        Ok(())
    }

    #[test]
    fn ended_twice_is_ended_once() -> Result {
        let mut state = state(2)?;

        assert!(state.end(1, Ok(())).1.is_some());
        let (advanced, node) = state.end(1, Ok(()));
        assert!(!advanced && node.is_none());
        assert_eq!(state.value, 1);
        Ok(())
    }
}
