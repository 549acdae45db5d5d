//! What services keep with a cell.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// One value of each type. Every service has a type of its own, so there are as many as the program has services.
#[derive(Default)]
pub(crate) struct Extensions(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Extensions {
    /// The value of this type, made if need be, and whether it was. `make` runs under a lock and must not come back.
    pub(crate) fn get_or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> (Arc<T>, bool) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made = false;
        let value = values.entry(TypeId::of::<T>()).or_insert_with(|| {
            made = true;
            Arc::new(make())
        });
        (value.clone().downcast().expect("a value is kept under its type"), made)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Extensions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_value() {
        let all = Extensions::default();
        assert_eq!(all.get_or_make(|| 1_u8), (Arc::new(1), true));
        assert_eq!(all.get_or_make(|| 2_u8), (Arc::new(1), false));
        assert_eq!(all.get_or_make(|| 3_u16), (Arc::new(3), true));
    }
}
