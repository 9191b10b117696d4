// SPDX-License-Identifier: GPL-2.0

//! A queue of work for one engine, fair between those who share it.
//!
//! Each open file has a [`Lane`], in which its work keeps its order; the engine's driver takes the
//! next piece from one lane after the other. A piece that is larger than a turn goes back to the
//! front of its lane. When a file is closed its lane goes, and the work in it is dropped: jobs that
//! the work holds end as `ECANCELED`.
//!
//! Taking and putting back allocate nothing, so that both may be done from an interrupt's thread.

use kernel::{
    alloc::kvec::InsertError,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// Names a lane, for ever.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LaneId(u64);

struct LaneState<W> {
    id: LaneId,
    /// One piece was taken and not yet done with.
    taken: bool,
    /// Places that were reserved and not yet used.
    reserved: usize,
    limit: usize,
    /// With capacity for `limit` pieces.
    work: KVec<W>,
}

impl<W> LaneState<W> {
    fn is_full(&self) -> bool {
        self.work.len() + self.reserved + usize::from(self.taken) >= self.limit
    }
}

struct Lanes<W> {
    next_id: u64,
    /// Whose turn it is.
    turn: usize,
    lanes: KVVec<LaneState<W>>,
}

impl<W> Lanes<W> {
    fn find(&mut self, id: LaneId) -> Option<&mut LaneState<W>> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }
}

#[pin_data]
struct Shared<W> {
    #[pin]
    lanes: Mutex<Lanes<W>>,
}

/// A queue with one lane for each file.
pub struct FairQueue<W> {
    shared: Arc<Shared<W>>,
}

impl<W> FairQueue<W> {
    /// A queue without lanes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let lanes = Lanes {
            next_id: 0,
            turn: 0,
            lanes: KVVec::new(),
        };
        let shared = Arc::pin_init(
            pin_init!(Shared {
                lanes <- new_mutex!(lanes, "accel_queue"),
            }),
            GFP_KERNEL,
        )?;

        Ok(Self { shared })
    }

    /// Adds a lane for at most `limit` pieces of work.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn lane(&self, limit: usize) -> Result<Lane<W>> {
        let work = KVec::with_capacity(limit, GFP_KERNEL_ACCOUNT)?;
        let mut lanes = self.shared.lanes.lock();
        let id = LaneId(lanes.next_id);

        lanes.next_id += 1;
        // Not charged to one of those who share it.
        lanes.lanes.push(
            LaneState {
                id,
                taken: false,
                reserved: 0,
                limit,
                work,
            },
            GFP_KERNEL,
        )?;
        Ok(Lane {
            shared: self.shared.clone(),
            id,
        })
    }

    /// Takes a piece from the lane whose turn it is. [`Self::put_back`] or [`Self::done`] must
    /// follow before that lane has another turn.
    pub fn take(&self) -> Option<(LaneId, W)> {
        let mut lanes = self.shared.lanes.lock();
        let count = lanes.lanes.len();

        for _ in 0..count {
            let turn = lanes.turn % count;
            lanes.turn = turn + 1;
            if let Some(lane) = lanes.lanes.get_mut(turn) {
                if lane.taken {
                    continue;
                }
                if let Ok(work) = lane.work.remove(0) {
                    lane.taken = true;
                    return Some((lane.id, work));
                }
            }
        }
        None
    }

    /// Puts what was taken back to the front of its lane. Returns it if the lane is gone: it is to
    /// be dropped, like any work, where nobody waits for the engine.
    #[must_use = "work is not to be dropped with the engine's lock held"]
    pub fn put_back(&self, id: LaneId, work: W) -> Option<W> {
        let mut lanes = self.shared.lanes.lock();
        let lane = match lanes.find(id) {
            Some(lane) => lane,
            None => return Some(work),
        };

        lane.taken = false;
        match lane.work.insert_within_capacity(0, work) {
            Ok(()) => None,
            // There is room: the piece was counted while it was taken.
            Err(InsertError::IndexOutOfBounds(work) | InsertError::OutOfCapacity(work)) => {
                Some(work)
            }
        }
    }

    /// What was taken from the lane is done with.
    pub fn done(&self, id: LaneId) {
        if let Some(lane) = self.shared.lanes.lock().find(id) {
            lane.taken = false;
        }
    }
}

/// The place of one file in a [`FairQueue`]. Dropping it drops the work that is in it.
pub struct Lane<W> {
    shared: Arc<Shared<W>>,
    id: LaneId,
}

impl<W> Lane<W> {
    /// Reserves a place at the end.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when as many pieces as the lane's limit are in it, taken from it or about to come.
    pub fn reserve(&self) -> Result<Place<'_, W>> {
        let mut lanes = self.shared.lanes.lock();
        let lane = lanes.find(self.id).ok_or(ENODEV)?;

        if lane.is_full() {
            return Err(EAGAIN);
        }
        lane.reserved += 1;
        Ok(Place { lane: self })
    }
}

impl<W> Drop for Lane<W> {
    fn drop(&mut self) {
        let mut lanes = self.shared.lanes.lock();
        let at = lanes.lanes.iter().position(|lane| lane.id == self.id);
        let lane = at.and_then(|at| lanes.lanes.remove(at).ok());

        // Whose turn it is moves with the rest.
        if at.is_some_and(|at| at < lanes.turn) {
            lanes.turn -= 1;
        }
        // Work may take locks of its own as it is dropped.
        drop(lanes);
        drop(lane);
    }
}

/// A place in a [`Lane`] that is free for one piece of work.
pub struct Place<'a, W> {
    lane: &'a Lane<W>,
}

impl<W> Place<'_, W> {
    /// Puts `work` there. Returns it if there is no room, which does not happen.
    pub fn fill(self, work: W) -> Option<W> {
        let mut lanes = self.lane.shared.lanes.lock();

        match lanes.find(self.lane.id) {
            Some(lane) => lane.work.push_within_capacity(work).err().map(|err| err.0),
            None => Some(work),
        }
        // The reservation ends with `self`, after this.
    }
}

impl<W> Drop for Place<'_, W> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.shared.lanes.lock().find(self.lane.id) {
            lane.reserved -= 1;
        }
    }
}
