"""What tests are built from: honest fakes of our seams, and other makers' peers."""
