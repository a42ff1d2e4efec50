"""What several test files share: networks, data, run folders with known numbers, independent references."""
