//! To and from the crate `ndarray`.

use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};

use super::{Array, Element, Order, ReadError};

impl Array {
    /// A copy; types as for [`Array::iter`].
    pub fn to_ndarray<T: Element>(&self) -> Result<ArrayD<T>, ReadError> {
        let elements = self.to_vec()?;
        Ok(ArrayD::from_shape_vec(IxDyn(self.shape()), elements).expect("as many elements as the shape has"))
    }

    /// The elements where they are, under the conditions of [`Array::as_slice`].
    pub fn as_ndarray<T: Element>(&self) -> Option<ArrayViewD<'_, T>> {
        let shape = IxDyn(self.shape()).set_f(self.order() == Order::Fortran);
        ArrayViewD::from_shape(shape, self.as_slice()?).ok()
    }
}

/// Takes the memory of an array that lies in it whole and in the order of C; copies others.
impl<T: Element> From<ArrayD<T>> for Array {
    fn from(array: ArrayD<T>) -> Self {
        let shape = array.shape().to_vec();
        let elements = if array.is_standard_layout() {
            let len = array.len();
            let (mut elements, offset) = array.into_raw_vec_and_offset();
            elements.drain(..offset.unwrap_or(0));
            elements.truncate(len);
            elements
        } else {
            array.iter().copied().collect()
        };
        Self::with_shape(elements, &shape).expect("as many elements as the shape has")
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, array};

    use super::*;

    #[test]
    fn arrays_go_both_ways() {
        let theirs = array![[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]].into_dyn();
        let address = theirs.as_ptr();
        let ours = Array::from(theirs.clone());
        assert_eq!(ours.to_ndarray::<f64>().unwrap(), theirs);
        assert_eq!(ours.as_ndarray::<f64>().unwrap(), theirs);
        assert_eq!(Array::from(theirs).as_slice::<f64>().unwrap().as_ptr(), address);
    }

    #[test]
    fn slices_and_other_orders_are_put_right() {
        let mut theirs = array![[1, 2], [3, 4], [5, 6]];
        theirs.slice_axis_inplace(Axis(0), (1..3).into());
        let ours = Array::from(theirs.clone().into_dyn());
        assert_eq!((ours.shape(), ours.to_vec::<i32>().unwrap()), (&[2, 2][..], vec![3, 4, 5, 6]));
        let ours = Array::from(theirs.reversed_axes().into_dyn());
        assert_eq!(ours.to_vec::<i32>().unwrap(), [3, 5, 4, 6]);
    }
}
