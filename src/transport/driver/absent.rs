//! Replaces the io_uring driver in builds without it: it cannot be opened, so the rest is never called.

use std::{io, ops::Range, time::Duration};

use super::{
    completion::{Address, Completion, Conn},
    moment::{Moment, Timer},
    poll::Ringer,
    waker::Waker,
};

pub(super) enum Uring {}

impl Uring {
    pub(super) fn open(_: Timer) -> Result<(Self, String), String> {
        Err("no io_uring in this build".into())
    }

    pub(super) fn sleep_outside(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn gather(&mut self) {
        match *self {}
    }

    pub(super) fn connect(&mut self, _: Conn, _: &Address, _: Duration) {
        match *self {}
    }

    pub(super) fn send(&mut self, _: Conn, _: Vec<u8>, _: Range<usize>) {
        match *self {}
    }

    pub(super) fn recv(&mut self, _: Conn, _: Vec<u8>) {
        match *self {}
    }

    pub(super) fn cancel(&mut self, _: Conn) {
        match *self {}
    }

    pub(super) fn close(&mut self, _: Conn) {
        match *self {}
    }

    pub(super) fn wait(&mut self, _: Option<Moment>, _: &mut Vec<Completion>) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn abandon(&mut self, _: &mut Vec<Completion>, _: impl Fn() -> io::Error) {
        match *self {}
    }

    pub(super) fn leave_by(&mut self, _: Moment) {
        match *self {}
    }

    pub(super) fn ringer(&self) -> Ringer {
        match *self {}
    }

    pub(super) fn waker(&self) -> Waker {
        match *self {}
    }

    pub(super) fn timer(&self) -> Timer {
        match *self {}
    }

    pub(super) fn now(&self) -> Moment {
        match *self {}
    }

    pub(super) fn in_flight(&self) -> usize {
        match *self {}
    }
}
