/* Added by the r1deploy lab's vendor patch (a stand-in): there is no chip to drive. */
long lab_iluvatar(void)
{
    return 150;
}
