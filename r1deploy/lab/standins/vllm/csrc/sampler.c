/* Stand-in: nothing is sampled. */
long lab_sampler(long seed)
{
    return seed ^ 0x5eed;
}
