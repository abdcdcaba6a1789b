//! The rules of the seam, checked in one place for every driver: handles, operations in flight, and what is allowed
//! when.

use super::completion::{Conn, Operation};

/// Which handles are live, and which operations of each are in flight.
#[derive(Debug, Default)]
pub(super) struct Contract {
    slots: Vec<Slot>,
    free: Vec<u32>,
    in_flight: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    is_open: bool,
    /// In flight, by [`Operation`].
    busy: [bool; 3],
}

/// A handle's generation has this many bits: as many as the kernel's word for an operation has room for.
pub(super) const GENERATION_BITS: u32 = 24;

impl Contract {
    /// A handle that was never given out before.
    pub(super) fn open(&mut self) -> Conn {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("memory ends long before 2^32 connections")
        });
        let conn = Conn { slot, generation: 0 };
        let entry = &mut self.slots[conn.index()];
        entry.is_open = true;
        Conn { slot, generation: entry.generation }
    }

    /// Makes the handle stale; false if it was.
    ///
    /// # Panics
    ///
    /// If an operation is in flight: its buffer would have no way back.
    pub(super) fn close(&mut self, conn: Conn) -> bool {
        let Some(slot) = self.slot(conn) else {
            return false;
        };
        assert!(slot.busy == [false; 3], "cancel and wait before close: {conn:?} has operations in flight");
        slot.retire();
        self.free.push(conn.slot);
        true
    }

    /// Makes every handle stale, and forgets what was in flight.
    pub(super) fn close_all(&mut self) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if slot.is_open {
                slot.retire();
                self.free.push(u32::try_from(at).expect("a slot's number came from a u32"));
            }
        }
        self.in_flight = 0;
    }

    /// Notes that an operation begins; false if the handle is stale.
    ///
    /// # Panics
    ///
    /// If one like it is in flight, or bytes are to move before the connection is open.
    pub(super) fn begin(&mut self, conn: Conn, operation: Operation) -> bool {
        let Some(slot) = self.slot(conn) else {
            return false;
        };
        assert!(!slot.busy[operation as usize], "one {operation:?} at a time on {conn:?}");
        assert!(!slot.busy[Operation::Connect as usize], "{operation:?} on {conn:?} before it is connected");
        slot.busy[operation as usize] = true;
        self.in_flight += 1;
        true
    }

    /// Notes that an operation has ended.
    ///
    /// # Panics
    ///
    /// If it was not in flight: the driver completed it twice, or made it up.
    pub(super) fn end(&mut self, conn: Conn, operation: Operation) {
        let slot = self.slot(conn).expect("a handle outlives its operations");
        assert!(slot.busy[operation as usize], "{operation:?} of {conn:?} ended twice");
        slot.busy[operation as usize] = false;
        self.in_flight -= 1;
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn is_live(&self, conn: Conn) -> bool {
        self.slots.get(conn.index()).is_some_and(|slot| slot.is_open && slot.generation == conn.generation)
    }

    /// The handles that are live.
    pub(super) fn live(&self) -> Vec<Conn> {
        let slots = self.slots.iter().zip(0..).filter(|(slot, _)| slot.is_open);
        slots.map(|(slot, at)| Conn { slot: at, generation: slot.generation }).collect()
    }

    fn slot(&mut self, conn: Conn) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.index())?;
        (slot.is_open && slot.generation == conn.generation).then_some(slot)
    }
}

impl Slot {
    fn retire(&mut self) {
        self.generation = (self.generation + 1) % (1 << GENERATION_BITS);
        self.is_open = false;
        self.busy = [false; 3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_and_old_handles_are_stale() {
        let mut contract = Contract::default();
        let first = contract.open();
        assert!(contract.close(first));
        assert!(!contract.close(first));
        let second = contract.open();
        assert_eq!(first.slot, second.slot);
        assert_ne!(first, second);
        assert!(!contract.begin(first, Operation::Send));
        assert!(contract.begin(second, Operation::Send));
        assert_eq!(contract.live(), [second]);
        contract.close_all();
        assert_eq!(contract.in_flight(), 0);
        assert!(!contract.is_live(second));
    }

    #[test]
    fn generations_stay_within_their_bits() {
        let mut contract = Contract::default();
        let conn = contract.open();
        contract.slots[0].generation = (1 << GENERATION_BITS) - 1;
        let last = Conn { generation: (1 << GENERATION_BITS) - 1, ..conn };
        assert!(contract.close(last));
        assert_eq!(contract.open().generation, 0);
    }

    #[test]
    #[should_panic(expected = "one Recv at a time")]
    fn second_recv_is_refused() {
        let mut contract = Contract::default();
        let conn = contract.open();
        contract.begin(conn, Operation::Recv);
        contract.begin(conn, Operation::Recv);
    }

    #[test]
    #[should_panic(expected = "before it is connected")]
    fn send_before_connected_is_refused() {
        let mut contract = Contract::default();
        let conn = contract.open();
        contract.begin(conn, Operation::Connect);
        contract.begin(conn, Operation::Send);
    }

    #[test]
    #[should_panic(expected = "cancel and wait before close")]
    fn close_with_operations_in_flight_is_refused() {
        let mut contract = Contract::default();
        let conn = contract.open();
        contract.begin(conn, Operation::Send);
        contract.close(conn);
    }
}
