"""Programs that tests run inside the guest; they find Muster's code beside them."""
