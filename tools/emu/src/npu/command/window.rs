// SPDX-License-Identifier: GPL-2.0
//! Windows over rows and columns, which CONV2D and POOL share.

use std::ops::Range;

use super::Failure;
use super::decode::Command;

/// Windows along one dimension of the input.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// Elements of the input.
    pub(super) input: usize,
    /// Elements of a window.
    pub(super) kernel: usize,
    /// From one window to the next.
    pub(super) stride: usize,
    /// From one element of a window to the next.
    pub(super) dilation: usize,
    /// Positions of the first window that are before the first element of the input.
    pub(super) padding: usize,
}

impl Window {
    /// The elements of the window at `position` that exist: which ones of the window, and where
    /// the first of those is in the input.
    pub(super) fn at(&self, position: usize) -> (Range<usize>, usize) {
        // Both are below 2^42: positions are below 2^26, and numbers in parameters below 2^16.
        let first = position * self.stride;
        let skipped = self
            .padding
            .saturating_sub(first)
            .div_ceil(self.dilation)
            .min(self.kernel);
        let fits = (self.input + self.padding)
            .saturating_sub(first)
            .div_ceil(self.dilation)
            .clamp(skipped, self.kernel);
        let start = first + skipped * self.dilation;
        (skipped..fits, start.saturating_sub(self.padding))
    }

    /// Whether each of `count` windows, at least 1, has an element that exists. Dilation is 1.
    pub(super) fn never_empty(&self, count: usize) -> bool {
        // The first and the last one reach least into the input.
        self.kernel > self.padding && (count - 1) * self.stride < self.input + self.padding
    }

    /// Where in the input `element` of the window at `position` is, if it exists.
    pub(super) fn element(&self, position: usize, element: usize) -> Option<usize> {
        (position * self.stride + element * self.dilation)
            .checked_sub(self.padding)
            .filter(|at| *at < self.input)
    }
}

/// The pair of parameter `index`, numbers for rows and columns, both at least 1.
pub(super) fn positive(command: &Command, index: usize) -> Result<[usize; 2], Failure> {
    match command.pair(index) {
        [0, _] | [_, 0] => Err(Failure::Parameter),
        pair => Ok(pair),
    }
}
