"""The documents as a site: staged from the repository, built by Zensical, with every link checked."""
